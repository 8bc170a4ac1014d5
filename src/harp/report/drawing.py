"""Charts in one look, the same bytes every time: inline SVG in the page's own text colour and font, or files."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harp.runs import write_atomic

# A colour nothing else uses; it becomes `currentColor`, so that text and axes follow the page's scheme.
INK = "#123457"
# Mid tones of the Okabe-Ito palette: at least 3:1 against both a white and a near-black page.
BLUE, ORANGE, GREEN, PURPLE = "#3b8bd4", "#d97a12", "#26a37a", "#b065c0"

# What matplotlib would sign an SVG with: a date, and addresses.
_SIGNATURE = ("Date", "Creator", "Format", "Type")

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "harp",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "text.parse_math": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), INK),
}


@contextmanager
def style() -> Iterator[None]:
    """Inside, figures have the report's look whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def panels(rows: int, columns: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure 7.2 inches wide and `height` high, and its axes row by row."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def svg(figure: Figure, title: str, description: str) -> Markup:
    """The figure as one `<svg>` element with `title` inside, `description` as its label and no address."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(_SIGNATURE))
    text = file.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    # Several figures share one page: group names would repeat there, and nothing refers to them.
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace(INK, "currentColor")
    head = Markup('<svg viewBox="{}" role="img" aria-label="{}"><title>{}</title>')
    return head.format(box and box[1], description, title) + Markup(body)


def save(figure: Figure, path: Path) -> Path:
    """`path`, where the figure is now, on white, as a PNG or SVG file by its suffix: the same bytes every time."""
    nothing = ("Software",) if path.suffix == ".png" else _SIGNATURE
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:], facecolor="white", dpi=200, metadata=dict.fromkeys(nothing))
    write_atomic(path, file.getvalue())
    return path


def share_axis(axis: Any) -> None:
    """`axis` (an x or y axis) shows shares in [0, 1] as percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def scale_shares(axes: Any, values: Sequence[float]) -> str:
    """What the y axis' name needs: `, log scale` where one of `values`, shares in [0, 1], is below 0.1; else nothing.

    The axis is in percent and ends at the whole.
    """
    log = min([value for value in values if value > 0] or [1.0]) < 0.1
    if log:
        log_axis(axes, values)
        axes.set_ylim(top=min(1.1, axes.get_ylim()[1]))
    else:
        axes.set_ylim(0, 1.02)
    share_axis(axes.yaxis)
    return ", log scale" if log else ""


def log_axis(axes: Any, values: Sequence[float]) -> None:
    """The y axis of `axes` is logarithmic in plain numbers, with room around the positive `values`."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 2, max(positive) * 1.6
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    # Below three decades, powers of ten alone would leave an axis with one or two numbers on it.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(owner: Any, handles: Sequence[Any], names: Sequence[str], **where: Any) -> None:
    """A legend of `names`; matplotlib drops those that begin with an underscore, so a space comes first."""
    owner.legend(handles, [f" {name}" for name in names], **where)


def thinned(records: Sequence[Any], most: int = 300) -> list[Any]:
    """At most `most` of the records, evenly spread, with the first and the last one among them."""
    if len(records) <= most:
        return list(records)
    return [records[index] for index in numpy.linspace(0, len(records) - 1, most).round().astype(int)]
