"""Certified accuracy against the radius, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harp.report.drawing import BLUE, panels, save, share_axis, style


def write_certified(stem: Path, curve: Sequence[Mapping[str, float]], title: str) -> list[Path]:
    """The paths of `stem` with `.png` and `.svg` added, where the chart is written: on white, the same bytes again.

    `curve` has for each radius, ascending, the share of images that are certified right up to it, and its interval
    (radius, share, low, high). The line falls in straight pieces between the radii that were counted.
    """
    with style():
        figure, (axes,) = panels(1, 1, 3.4)
        radii, share, low, high = ([row[name] for row in curve] for name in ("radius", "share", "low", "high"))
        axes.fill_between(radii, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(radii, share, color=BLUE, marker="o" if len(radii) == 1 else None)
        axes.set_title(title, loc="left")
        axes.set_xlabel("radius in the 2-norm, pixel values from 0 to 1")
        axes.set_ylabel("certified right")
        axes.set_xlim(0, max(radii[-1], 0.01) * 1.02)
        axes.set_ylim(0, 1.02)
        share_axis(axes.yaxis)
        return [save(figure, stem.with_name(stem.name + suffix)) for suffix in (".png", ".svg")]
