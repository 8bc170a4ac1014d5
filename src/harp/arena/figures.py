"""The arena's charts: accuracy of every row, against the budget where there are several; what each layer keeps."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from harp.arena.schema import Results, Standing
from harp.report.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, legend, panels, save, share_axis, style, svg

_LOOKS = [(colour, line) for line, colour in product(("-", "--", ":", "-."), (BLUE, ORANGE, GREEN, PURPLE))]


def accuracy(results: Results) -> Markup:
    """Clean and robust accuracy as one `<svg>` element."""
    with style():
        text = "Clean and robust accuracy of every row, with the deviation over seeds."
        return svg(_accuracy(results), "Accuracy", text)


def write(results: Results, stem: Path) -> list[Path]:
    """The paths of `stem` with `.png` and `.svg` added, where that chart is written."""
    with style():
        figure = _accuracy(results)
        return [save(figure, stem.with_name(stem.name + suffix)) for suffix in (".png", ".svg")]


def _accuracy(results: Results) -> Figure:
    keeps = sorted({standing.keep for standing in results.ranking})
    return _curves(results, keeps) if len(keeps) > 1 else _bars(results)


def _bars(results: Results) -> Figure:
    ranking = list(reversed(results.ranking))
    figure, (axes,) = panels(1, 1, 1.1 + 0.28 * len(ranking))
    places = range(len(ranking))
    handles = [
        axes.errorbar(
            [getattr(one, name) for one in ranking],
            places,
            xerr=[getattr(one, f"{name}_std") or 0.0 for one in ranking],
            fmt=mark,
            color=colour,
            capsize=3,
        )
        for name, mark, colour in (("clean", "o", BLUE), ("robust", "s", ORANGE))
    ]
    for name, colour in (("clean", BLUE), ("worst", ORANGE)) if results.dense else ():
        axes.axvline(_dense(results, name), color=colour, linewidth=1, linestyle=":")
    axes.set_yticks(list(places), [one.row for one in ranking])
    share_axis(axes.xaxis)
    axes.set_xlim(left=0)
    legend(figure, handles, ["clean", "robust, worst of all attacks"], loc="outside upper left", ncols=2)
    return figure


def _curves(results: Results, keeps: Sequence[float]) -> Figure:
    rows = list(dict.fromkeys(one.row for one in results.ranking))
    figure, both = panels(1, 2, 3.6 + 0.16 * (len(rows) // 3))
    lines: list[Any] = []
    for axes, name in zip(both, ("clean", "robust"), strict=True):
        lines = []
        for row, (colour, line) in zip(rows, _LOOKS * (1 + len(rows) // len(_LOOKS)), strict=False):
            found = sorted((one for one in results.ranking if one.row == row), key=lambda one: one.keep)
            lines.append(_line(axes, found, name, colour, line))
        if results.dense:
            dense = axes.axhline(
                _dense(results, "worst" if name == "robust" else name), color=INK, linewidth=1, linestyle=":"
            )
            lines.append(dense)
        axes.set_xscale("log")
        axes.set_xticks(list(keeps), [f"{100 * keep:g} %" for keep in keeps])
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.invert_xaxis()
        axes.set_xlabel("share of weights kept")
        axes.set_title("clean accuracy" if name == "clean" else "robust accuracy, worst of all attacks")
        share_axis(axes.yaxis)
        axes.set_ylim(bottom=0)
    names = [*rows, "dense"] if results.dense else rows
    legend(figure, lines, names, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _dense(results: Results, name: str) -> float:
    """The dense networks' mean accuracy over seeds."""
    return sum(one.accuracies[name].accuracy for one in results.dense) / len(results.dense)


def _line(axes: Any, found: Sequence[Standing], name: str, colour: str, line: str) -> Any:
    at, means = [one.keep for one in found], [getattr(one, name) for one in found]
    spreads = [getattr(one, f"{name}_std") or 0.0 for one in found]
    low, high = ([mean + sign * std for mean, std in zip(means, spreads, strict=True)] for sign in (-1, 1))
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    return axes.plot(at, means, color=colour, linestyle=line, marker="o", markersize=3)[0]


def shares(results: Results) -> Markup:
    """What each layer keeps in every row, at the smallest budget, as one `<svg>` element."""
    keep = min(result.keep for result in results.measured)
    rows = {result.row: result.shares for result in reversed(results.measured) if result.keep == keep}
    names = max((list(found) for found in rows.values()), key=len)
    with style():
        figure, (axes,) = panels(1, 1, 3.8 + 0.16 * (len(rows) // 3))
        lines = []
        for (_, found), (colour, line) in zip(rows.items(), _LOOKS * (1 + len(rows) // len(_LOOKS)), strict=False):
            places = [names.index(name) for name in found if name in names]
            values = [found[name] for name in found if name in names]
            lines.append(axes.plot(places, values, color=colour, linestyle=line, marker="o", markersize=3)[0])
        axes.axhline(keep, color=INK, linewidth=1, linestyle=":")
        axes.set_yscale("log")
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
        share_axis(axes.yaxis)
        axes.set_ylabel("kept, log scale")
        legend(figure, lines, list(rows), loc="outside lower center", ncols=4, fontsize=8)
        text = f"What each layer keeps of its units in every row at {100 * keep:g} %."
        return svg(figure, "Kept share per layer", text)
