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
    panels,
    scale_shares,
    share_axis,
    style,
    svg,
    thinned,
)
from harp.report.formats import count
from harp.report.record import Stage
from harp.written import Allocation

_FORCES = {"robust": BLUE, "size": ORANGE, "decay": GREEN}


def keep_shares(allocation: Allocation) -> Markup:
    """Each layer's kept share beside the uniform one, logarithmic where some are small; sizes after the names."""
    sites, units = allocation.sites, allocation.granularity
    with style():
        figure, (axes,) = panels(1, 1, 4.4)
        places = numpy.arange(len(sites))
        names = _short([site.name for site in sites])
        shares = [site.share for site in sites], [site.uniform_share for site in sites]
        bars = [
            axes.bar(places + offset, values, width=0.4, color=colour)
            for offset, values, colour in zip((-0.2, 0.2), shares, (BLUE, ORANGE), strict=True)
        ]
        axes.set_ylabel(f"{units} kept{scale_shares(axes, [*shares[0], *shares[1]])}")
        axes.grid(axis="x", visible=False)
        _name_layers(axes, [f"{name} ({count(site.size)})" for name, site in zip(names, sites, strict=True)])
        legend(figure, bars, [allocation.method, "uniform"], loc="outside upper left", ncols=2)
        text = f"Bar chart of the share of its {units} that each layer keeps, beside a uniform one."
        return svg(figure, f"Share of {units} kept per layer", text)


def validation(stages: Sequence[Stage]) -> Markup | None:
    """Clean and robust validation accuracy over all stages on one axis of epochs; None where nothing was held out."""
    if not any(record["validation"] for stage in stages for record in stage.records):
        return None
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
        axes.set_ylabel(f"learned rate{scale_shares(axes, values.flatten().tolist())}")
        axes.set_xlabel(f"epochs of {stage.name}")
        columns = max(1, 100 // (max(map(len, _short(names))) + 9))
        legend(figure, lines, _short(names), loc="outside lower center", ncols=columns, fontsize=8)
        text = "Line chart of each layer's learned rate over the pruning stage, dark for the first."
        return svg(figure, "Learned rate per layer over the pruning stage", text)


def budget(stage: Stage, allocation: Allocation) -> Markup | None:
    """The density over the pruning stage, and penalty and gamma where there are; None where no density was told."""
    records = _recorded(stage, "density")
    if not records:
        return None
    titles = {
        "density": (f"share of {allocation.unit} that the method stands at (dashed: the budget)", BLUE),
        "penalty": ("excess over the budget, as a share of it", ORANGE),
        "gamma": ("gamma, the weight of the excess in the loss", PURPLE),
    }
    series = {
        key: [record["pruner"][key] for record in records]
        for key in titles
        if records[0]["pruner"].get(key) is not None
    }
    with style():
        figure, axes = panels(len(series), 1, 0.7 + 1.5 * len(series))
        for panel, (key, values) in zip(axes, series.items(), strict=True):
            title, colour = titles[key]
            panel.plot(_epochs(records), values, color=colour)
            panel.set_title(title)
            panel.set_ylim(0, 1.1 * max(values) or 1)
        axes[0].set_title(titles["density"][0] + scale_shares(axes[0], [*series["density"], allocation.keep]))
        axes[0].axhline(allocation.keep, color=INK, linestyle="--", linewidth=1)
        axes[-1].set_xlabel(f"epochs of {stage.name}")
        text = f"Line charts over the pruning stage: {'; '.join(titles[key][0] for key in series)}."
        return svg(figure, "The budget over the pruning stage", text)


def forces(stage: Stage) -> Markup | None:
    """The parts of the rates' gradient that were not always 0, over time and, of several, per layer; None of none."""
    records = _recorded(stage, "rate_gradients")
    if not records:
        return None
    parts = [record["pruner"]["rate_gradients"] for record in records]
    names = list(parts[0]["robust"])
    all_sizes = {force: numpy.abs([[part[force][name] for name in names] for part in parts]) for force in _FORCES}
    sizes = {force: size for force, size in all_sizes.items() if size.any()}
    if not sizes:
        return None
    with style():
        figure, (time, *layers) = panels(min(2, len(sizes)), 1, 5.6 if len(sizes) > 1 else 2.8)
        lines = [time.plot(_epochs(records), size.sum(1), color=_FORCES[force])[0] for force, size in sizes.items()]
        log_axis(time, [value for size in sizes.values() for value in size.sum(1)])
        time.set_title("size of each part, summed over layers, log scale")
        time.set_xlabel(f"epochs of {stage.name}")
        for axes in layers:
            _draw_prevailing(axes, sizes, names)
        legend(figure, lines, list(sizes), loc="outside upper left", ncols=3)
        text = f"How much each part ({', '.join(sizes)}) moved the rates over time{', and by layer' if layers else ''}."
        return svg(figure, "Parts of the rates' gradient", text)


def _draw_prevailing(axes: Any, sizes: Mapping[str, Any], names: Sequence[str]) -> None:
    means = {force: size.mean(0) for force, size in sizes.items()}
    total = numpy.maximum(sum(means.values()), numpy.finfo(float).tiny)
    bottom = numpy.zeros(len(names))
    for force, mean in means.items():
        axes.bar(numpy.arange(len(names)), mean / total, bottom=bottom, color=_FORCES[force], width=0.8)
        bottom = bottom + mean / total
    axes.set_title("parts of each layer's gradient, mean of the stage")
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
