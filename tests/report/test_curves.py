import math
from pathlib import Path

import matplotlib.image
import numpy
import pytest

from harp.errors import HarpError
from harp.report import curves as drawn
from harp.report.curves import security_svg, write_curves
from harp.report.drawing import INK, style
from harp.report.record import Curve
from harp.threats import Threat
from harp.written import Accuracy

THREAT = Threat(math.inf, 8 / 255)
POINT = Accuracy(0.4, 0.35, 0.44, 400)


def curve(*eps: float, last: float = 0.0) -> Curve:
    accuracy = numpy.linspace(0.9, last, len(eps))
    return Curve(numpy.array(eps), accuracy, accuracy - 0.05, accuracy + 0.04, 100)


CURVES = {"dense": curve(0, 4 / 255, 9 / 255, 20 / 255), "pruned": curve(0, 2 / 255, 6 / 255)}


def axes_of(curves=CURVES, threat=THREAT, points=None):
    with style():
        return drawn._figure(curves, threat, points or {}).axes[0]


def test_a_curve_is_its_steps_in_255ths_and_goes_on_to_the_end():
    axes = axes_of()
    _, dense, pruned = axes.lines
    assert dense.get_drawstyle() == pruned.get_drawstyle() == "steps-post"
    end = axes.get_xlim()[1]
    assert dense.get_xdata().tolist() == pytest.approx([0, 4, 9, 20, end])
    assert pruned.get_xdata().tolist() == pytest.approx([0, 2, 6, end])
    assert pruned.get_ydata().tolist() == pytest.approx([0.9, 0.45, 0, 0])
    assert end == pytest.approx(20 * 1.02)


def test_the_band_is_the_interval():
    corners = axes_of({"one": curve(0, 0.1)}).collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx(0.94)
    assert sorted({round(height, 6) for height in corners[:, 1]}) == pytest.approx([-0.05, 0.04, 0.85, 0.94])


def test_the_threat_is_a_line_and_what_autoattack_left_a_point_on_it():
    axes = axes_of(points={"pruned": POINT})
    assert axes.lines[0].get_xdata() == pytest.approx([8, 8])
    assert [text.get_text() for text in axes.texts] == [" eps = 8/255"]
    (mark,) = axes.containers
    assert (mark[0].get_xdata()[0], mark[0].get_ydata()[0]) == pytest.approx((8, 0.4))
    assert mark[0].get_color() == axes.lines[2].get_color()
    assert mark[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([0.35, 0.44])


@pytest.mark.parametrize(("norm", "words"), [(2, "L2, in pixel values"), (1, "L1, in pixel values")])
def test_other_norms_count_in_pixel_values(norm, words):
    axes = axes_of({"one": curve(0, 0.3, 2.0)}, Threat(norm, 0.5))
    assert words in axes.get_xlabel()
    assert axes.lines[0].get_xdata() == pytest.approx([0.5, 0.5])
    assert axes.lines[1].get_xdata()[:3].tolist() == pytest.approx([0, 0.3, 2])


def test_the_axis_shows_the_threat_and_no_more_than_the_curves_need():
    assert axes_of({"one": curve(0, 1 / 255)}).get_xlim()[1] == pytest.approx(1.25 * 8 * 1.02)
    # The last point stays right to eps 0.9, but one point in two hundred does not stretch the axis.
    accuracy = numpy.array([0.9, 0.005, 0.0])
    far = Curve(numpy.array([0, 12 / 255, 0.9]), accuracy, accuracy, accuracy, 3)
    assert axes_of({"one": far}).get_xlim()[1] == pytest.approx(12 * 1.02)


def test_many_steps_are_drawn_as_finely_as_the_eye_tells():
    eps = numpy.linspace(0, 16 / 255, 5000)
    falling = 1 - eps * 255 / 16
    line = axes_of({"one": Curve(eps, falling, falling, falling, n=5000)}).lines[1]
    assert len(line.get_xdata()) == 720
    assert numpy.abs(line.get_ydata() - (1 - line.get_xdata() / 16).clip(0)).max() < 1 / 700


def test_the_svg_is_for_a_page_and_names_its_curves():
    text = security_svg(CURVES, THREAT, {"dense": POINT})
    assert text == security_svg(CURVES, THREAT, {"dense": POINT})
    assert text.startswith("<svg viewBox")
    assert INK not in text
    assert "http" not in text
    assert "dense, pruned; the threat is L-inf, eps 8/255" in text


def test_files_are_the_same_bytes_again(tmp_path: Path):
    paths = write_curves(tmp_path / "a.b", CURVES, THREAT, {"dense": POINT})
    again = write_curves(tmp_path / "again", CURVES, THREAT, {"dense": POINT})
    assert [path.name for path in paths] == ["a.b.png", "a.b.svg"]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    picture = matplotlib.image.imread(paths[0])
    assert picture.shape[1] == 1440
    assert picture[0, 0].tolist() == [1, 1, 1, 1]
    assert paths[1].read_text().startswith("<?xml")


def test_a_chart_of_nothing_or_of_too_much_is_refused():
    with pytest.raises(HarpError, match="1 to 12 curves in a chart, got 0"):
        security_svg({}, THREAT, {})
    with pytest.raises(HarpError, match="got 13"):
        security_svg({str(name): curve(0, 0.1) for name in range(13)}, THREAT, {})


def test_a_point_without_its_curve_is_refused():
    with pytest.raises(HarpError, match="a point for 'sparse' needs a curve of that name; there are: dense, pruned"):
        security_svg(CURVES, THREAT, {"sparse": POINT})
