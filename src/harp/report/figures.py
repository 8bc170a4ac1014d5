"""The report's charts as inline SVG; None where the run did not record what one would show."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy
from markupsafe import Markup

from harp.report.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    legend,
    log_axis,
    log_share_axis,
    panels,
    share_axis,
    style,
    svg,
    thinned,
)
from harp.report.formats import count
from harp.report.record import Allocation, Stage

_FORCES = {"robust": BLUE, "size": ORANGE, "decay": GREEN}


def keep_shares(allocation: Allocation) -> Markup:
    """Each layer's kept share, learned beside uniform, on a logarithmic axis; sizes after the names."""
    sites = allocation.sites
    with style():
        figure, (axes,) = panels(1, 1, 4.4)
        places = numpy.arange(len(sites))
        names = _short([site.name for site in sites])
        shares = [site.share for site in sites], [site.uniform_share for site in sites]
        bars = [
            axes.bar(places + offset, values, width=0.4, color=colour)
            for offset, values, colour in zip((-0.2, 0.2), shares, (BLUE, ORANGE), strict=True)
        ]
        log_share_axis(axes, [*shares[0], *shares[1]])
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("weights kept, log scale")
        _name_layers(axes, [f"{name} ({count(site.size)})" for name, site in zip(names, sites, strict=True)])
        legend(figure, bars, [allocation.method, "uniform"], loc="outside upper left", ncols=2)
        text = "Bar chart of the share of its weights that each layer keeps, beside a uniform one."
        return svg(figure, "Share of weights kept per layer", text)


def validation(stages: Sequence[Stage]) -> Markup:
    """Clean and robust validation accuracy over all stages on one axis of epochs, chosen models ringed."""
    with style():
        figure, (axes,) = panels(1, 1, 3.6)
        start = 0.0
        for place, stage in enumerate(stages):
            _draw_validation(axes, stage, start)
            axes.axvline(start, color=INK, alpha=0.35, linewidth=1, linestyle=":")
            # One step up for each stage, so that the name of a short one is not overwritten by the next.
            axes.text(start, 1.01 + 0.07 * place, stage.name, transform=axes.get_xaxis_transform())
            start += stage.epochs
        axes.set_xlabel("epochs since the start of the run")
        axes.set_ylabel("validation accuracy")
        axes.set_xlim(0, max(start, 1e-9) * 1.01)
        share_axis(axes.yaxis)
        lines = [matplotlib.lines.Line2D([], [], color=colour) for colour in (BLUE, ORANGE)]
        ring = matplotlib.lines.Line2D([], [], color=INK, marker="o", fillstyle="none", linestyle="none")
        legend(figure, [*lines, ring], ["clean", "robust", "chosen"], loc="outside lower center", ncols=3)
        text = "Line chart of clean and robust validation accuracy over the epochs of all stages."
        return svg(figure, "Validation accuracy over the run", text)


def _draw_validation(axes: Any, stage: Stage, start: float) -> None:
    records = thinned([record for record in stage.records if record["validation"]])
    chosen = [record for record in stage.records if record["step"] == stage.done.get("selected_step")]
    for key, colour in (("clean", BLUE), ("robust", ORANGE)):
        marker = "o" if len(records) < 30 else ""
        axes.plot(*_series(records, key, start), color=colour, marker=marker, markersize=3)
        ring = _series([record for record in chosen if record["validation"]], key, start)
        axes.plot(*ring, color=INK, marker="o", markersize=8, fillstyle="none", linestyle="none")


def _series(records: Sequence[Mapping[str, Any]], key: str, start: float) -> tuple[list[float], list[float]]:
    return [start + record["epoch"] for record in records], [record["validation"][key] for record in records]


def rates(stage: Stage) -> Markup | None:
    """Every layer's learned rate over the pruning stage; None where the method learns none."""
    records = _recorded(stage, "rates")
    if not records:
        return None
    names = list(records[0]["pruner"]["rates"])
    with style():
        figure, (axes,) = panels(1, 1, 3.9 + 0.16 * (len(names) // 4))
        values = numpy.array([[record["pruner"]["rates"][name] for name in names] for record in records])
        # Lightness follows depth; the ends of viridis would vanish on a dark or a white page.
        colours = matplotlib.colormaps["viridis"](numpy.linspace(0.28, 0.88, len(names)))
        axes.set_prop_cycle(color=colours)
        lines = axes.plot(_epochs(records), values)
        log_share_axis(axes, values.flatten().tolist())
        axes.set_xlabel("epochs of stage 2")
        axes.set_ylabel("learned rate, log scale")
        columns = max(1, 100 // (max(map(len, _short(names))) + 9))
        legend(figure, lines, _short(names), loc="outside lower center", ncols=columns, fontsize=8)
        text = "Line chart of each layer's learned rate over the pruning stage, dark for the first."
        return svg(figure, "Learned rate per layer over the pruning stage", text)


def budget(stage: Stage, keep: float) -> Markup | None:
    """Soft density, penalty and its weight gamma over the pruning stage; None where the method has none."""
    records = _recorded(stage, "gamma")
    if not records:
        return None
    with style():
        figure, axes = panels(3, 1, 5.2)
        titles = ("density (dashed: the target)", "penalty added to the loss", "gamma, the penalty's weight")
        for panel, key, title, colour in zip(
            axes, ("density", "penalty", "gamma"), titles, (BLUE, ORANGE, PURPLE), strict=True
        ):
            values = [record["pruner"][key] for record in records]
            panel.plot(_epochs(records), values, color=colour)
            panel.set_title(title)
        densities = [record["pruner"]["density"] for record in records]
        log_share_axis(axes[0], [*densities, keep])
        axes[0].axhline(keep, color=INK, linestyle="--", linewidth=1)
        axes[2].set_xlabel("epochs of stage 2")
        text = "Three line charts over the pruning stage: soft density beside its target, penalty, and gamma."
        return svg(figure, "Density, penalty and gamma over the pruning stage", text)


def forces(stage: Stage) -> Markup | None:
    """The parts of the rates' gradient, over time and per layer; None where they were not recorded."""
    records = _recorded(stage, "rate_gradients")
    if not records:
        return None
    parts = [record["pruner"]["rate_gradients"] for record in records]
    names = list(parts[0]["robust"])
    sizes = {force: numpy.abs([[part[force][name] for name in names] for part in parts]) for force in _FORCES}
    with style():
        figure, (time, layers) = panels(2, 1, 5.6)
        lines = [time.plot(_epochs(records), sizes[force].sum(1), color=colour)[0] for force, colour in _FORCES.items()]
        log_axis(time, [size for force in _FORCES for size in sizes[force].sum(1)])
        time.set_title("size of each part, summed over layers, log scale")
        time.set_xlabel("epochs of stage 2")
        _draw_prevailing(layers, sizes, names)
        legend(figure, lines, list(_FORCES), loc="outside upper left", ncols=3)
        text = "How much robust loss, size penalty and weight decay moved the rates: over time, and by layer."
        return svg(figure, "Parts of the rates' gradient", text)


def _draw_prevailing(axes: Any, sizes: Mapping[str, Any], names: Sequence[str]) -> None:
    means = {force: size.mean(0) for force, size in sizes.items()}
    total = numpy.maximum(sum(means.values()), numpy.finfo(float).tiny)
    bottom = numpy.zeros(len(names))
    for force, colour in _FORCES.items():
        axes.bar(numpy.arange(len(names)), means[force] / total, bottom=bottom, color=colour, width=0.8)
        bottom = bottom + means[force] / total
    axes.set_title("parts of each layer's gradient, mean of stage 2")
    axes.grid(axis="x", visible=False)
    share_axis(axes.yaxis)
    _name_layers(axes, _short(names))


def _name_layers(axes: Any, names: Sequence[str]) -> None:
    # 480 points is the width of the axes: beyond 60 layers the names shrink to stay apart.
    size = min(8.0, 480 / max(1, len(names)))
    axes.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=size)
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.02)


def _short(names: Sequence[str]) -> list[str]:
    return [name.removesuffix(".weight") for name in names]


def _recorded(stage: Stage, key: str) -> list[Mapping[str, Any]]:
    return thinned([record for record in stage.records if (record.get("pruner") or {}).get(key) is not None])


def _epochs(records: Sequence[Mapping[str, Any]]) -> list[float]:
    return [record["epoch"] for record in records]
