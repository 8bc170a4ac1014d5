"""Security curves: robust accuracy against eps for one or several models, as inline SVG or as files."""

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harp.errors import HarpError
from harp.report.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, legend, panels, save, share_axis, style, svg
from harp.report.record import Curve
from harp.threats import Threat, exact
from harp.written import Accuracy

_LOOKS = [(colour, line) for line, colour in product(("-", "--", ":"), (BLUE, ORANGE, GREEN, PURPLE))]
# Beyond the eps at which every curve has sunk below this, a few distant points would take up the whole width.
_SUNK = 0.01
# A hundred to the inch: 10,000 steps of three curves would make an SVG of four megabytes.
_FINEST = 720


def security_svg(curves: Mapping[str, Curve], threat: Threat, points: Mapping[str, Accuracy]) -> Markup:
    """The curves by their models' names as one `<svg>` element in the page's own colours; see `write_curves`."""
    with style():
        text = f"Step chart of robust accuracy against eps: {', '.join(curves)}; the threat is {threat}."
        return svg(_figure(curves, threat, points), "Robust accuracy against eps", text)


def write_curves(stem: Path, curves: Mapping[str, Curve], threat: Threat, points: Mapping[str, Accuracy]) -> list[Path]:
    """The paths of `stem` with `.png` and `.svg` added, where the chart is written: on white, the same bytes again.

    Each curve is a step function with its pointwise interval as a band. A vertical line stands at the threat's eps, and
    on it the `points`: what AutoAttack, or another attack at that eps, left of the models of these names. For the
    inf-norm the axis counts 255ths. Raises `HarpError` for no curve, more than twelve, or a point without a curve.
    """
    with style():
        figure = _figure(curves, threat, points)
        return [save(figure, stem.with_name(stem.name + suffix)) for suffix in (".png", ".svg")]


def _figure(curves: Mapping[str, Curve], threat: Threat, points: Mapping[str, Accuracy]) -> Figure:
    if not 0 < len(curves) <= len(_LOOKS):
        raise HarpError(f"expected 1 to {len(_LOOKS)} curves in a chart, got {len(curves)}")
    if strange := [name for name in points if name not in curves]:
        raise HarpError(f"a point for {strange[0]!r} needs a curve of that name; there are: {', '.join(curves)}")
    unit = 255 if threat.norm == math.inf else 1
    figure, (axes,) = panels(1, 1, 3.8)
    end = max(1.25 * threat.eps, *(_reach(curve) for curve in curves.values())) * 1.02
    axes.axvline(unit * threat.eps, color=INK, linestyle="--", linewidth=1)
    axes.text(unit * threat.eps, 1.02, f" eps = {exact(threat.eps)}", transform=axes.get_xaxis_transform())
    looks = dict(zip(curves, _LOOKS, strict=False))
    lines = [_draw(axes, curve, unit, end, *looks[name]) for name, curve in curves.items()]
    for name, point in points.items():
        _mark(axes, unit * threat.eps, point, looks[name][0])
    _name_axes(axes, threat, unit * end)
    legend(figure, lines, list(curves), loc="outside lower center", ncols=4)
    return figure


def _reach(curve: Curve) -> float:
    sunk = curve.eps[curve.accuracy <= _SUNK]
    return float(sunk[0] if len(sunk) else curve.eps[-1])


def _draw(axes: Any, curve: Curve, unit: int, end: float, colour: str, line: str) -> Any:
    eps, index = _steps(curve, end)
    low, high, accuracy = (values[index] for values in (curve.low, curve.high, curve.accuracy))
    axes.fill_between(unit * eps, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
    return axes.plot(unit * eps, accuracy, drawstyle="steps-post", color=colour, linestyle=line)[0]


def _steps(curve: Curve, end: float) -> tuple[NDArray[numpy.float64], NDArray[numpy.int64]]:
    """Where a curve is drawn, up to `end`, and which of its values holds: each step, or as many as the eye tells."""
    eps = numpy.append(curve.eps[curve.eps < end], end)
    if len(eps) > _FINEST:
        eps = numpy.linspace(curve.eps[0], end, _FINEST)
    return eps, numpy.searchsorted(curve.eps, eps, side="right") - 1


def _mark(axes: Any, eps: float, point: Accuracy, colour: str) -> None:
    reach = [[point.accuracy - point.low], [point.high - point.accuracy]]
    axes.errorbar(
        [eps], [point.accuracy], yerr=reach, color=colour, marker="o", markeredgecolor=INK, capsize=3, zorder=3
    )


def _name_axes(axes: Any, threat: Threat, end: float) -> None:
    norm = "∞" if threat.norm == math.inf else f"{threat.norm:g}"
    axes.set_xlabel(f"eps of L{norm}, in {'255ths' if threat.norm == math.inf else 'pixel values from 0 to 1'}")
    axes.set_ylabel("right under attack")
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.02)
    share_axis(axes.yaxis)
