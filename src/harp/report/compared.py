"""The page of several runs side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from markupsafe import Markup

from harp.report.drawing import BLUE, ORANGE, legend, panels, share_axis, style, svg
from harp.report.formats import threat_name
from harp.report.templates import environment, look
from harp.threats import Threat


@dataclass(frozen=True)
class Row:
    """A line of the table: what the runs are, each measure's text, and its shares in [0, 1], one a seed."""

    label: str
    seeds: Sequence[int]
    texts: Mapping[str, str]
    values: Mapping[str, Sequence[float]]
    """measures that are not in doubt"""


def compared_page(rows: Sequence[Row], names: Sequence[str], threat: Threat, images: str) -> str:
    """The page as HTML that fetches nothing: the measures `names` in a table that can be ordered, and a chart."""
    ordered = sorted(rows, key=lambda row: -mean(row.values.get("worst", [0.0])))
    return (
        environment()
        .get_template("compared.html.j2")
        .render(
            title=f"{len(rows)} lines of runs, side by side" if len(rows) > 1 else "One line of runs",
            names=names,
            rows=ordered,
            threat=threat_name(threat),
            images=images,
            chart=_chart(ordered),
            **look(),
        )
    )


def _chart(rows: Sequence[Row]) -> Markup:
    names = [textwrap.fill(row.label, 30) for row in rows]
    with style():
        figure, (axes,) = panels(1, 1, 1.2 + 0.2 * sum(name.count("\n") + 1.7 for name in names))
        handles = [
            _points(axes, rows, name, mark, colour)
            for name, mark, colour in (("clean", "o", BLUE), ("worst", "s", ORANGE))
        ]
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        share_axis(axes.xaxis)
        legend(figure, handles, ["clean", "robust, worst of all attacks"], loc="outside upper left", ncols=2)
        return svg(
            figure, "Accuracy", "Clean and robust accuracy of every line of runs, with the deviation over seeds."
        )


def _points(axes: Any, rows: Sequence[Row], name: str, mark: str, colour: str) -> Any:
    known = [(place, row.values[name]) for place, row in enumerate(rows) if name in row.values]
    for place, values in known:
        axes.plot(values, [place] * len(values), mark, color=colour, alpha=0.3, markersize=4)
    means, spreads = [mean(values) for _, values in known], [stdev(v) if len(v) > 1 else 0.0 for _, v in known]
    return axes.errorbar(means, [place for place, _ in known], xerr=spreads, fmt=mark, color=colour, capsize=3)
