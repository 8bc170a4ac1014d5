"""How long each runner takes, as files."""

from collections.abc import Mapping
from pathlib import Path

from harp.errors import HarpError
from harp.report.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, legend, log_axis, panels, save, style

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def write_latencies(stem: Path, latencies: Mapping[str, Mapping[str, tuple[float, float]]], title: str) -> list[Path]:
    """The paths of `stem` with `.png` and `.svg` added, where the chart is written: on white, the same bytes again.

    `latencies`: batch -> runner -> median and 10 % quantile of a call, in seconds. A dot stands at the median, with
    its milliseconds beside it, and a line reaches down to the quantile; the axis is logarithmic. Raises `HarpError`
    for no batch or more than four.
    """
    if not 0 < len(latencies) <= len(_COLOURS):
        raise HarpError(f"expected 1 to {len(_COLOURS)} batch sizes in a chart, got {len(latencies)}")
    runners = list(dict.fromkeys(runner for row in latencies.values() for runner in row))
    with style():
        figure, (axes,) = panels(1, 1, 4.2)
        handles = []
        for row, colour in zip(latencies.values(), _COLOURS, strict=False):
            places = [runners.index(runner) for runner in row]
            medians, quick = ([1000 * pair[end] for pair in row.values()] for end in (0, 1))
            axes.vlines(places, quick, medians, color=colour, linewidth=1.6)
            handles += axes.plot(places, medians, color=colour, marker="o", linestyle="none")
            for place, median in zip(places, medians, strict=True):
                axes.annotate(
                    f"{median:.3g}", (place, median), (6, 0), textcoords="offset points", va="center", color=INK
                )
        log_axis(axes, [1000 * end for row in latencies.values() for pair in row.values() for end in pair])
        axes.set_ylabel("ms a call, log scale")
        axes.set_xticks(range(len(runners)), runners, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(runners) - 0.2)
        axes.set_title(title)
        legend(figure, handles, [f"batch {batch}" for batch in latencies], loc="outside lower center", ncols=4)
        return [save(figure, stem.with_name(stem.name + suffix)) for suffix in (".png", ".svg")]
