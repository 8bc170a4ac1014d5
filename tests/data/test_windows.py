import math

import pytest
from hypothesis import given, strategies as st

from harp.data.windows import Window, centred, drawn

PIXELS, SHARES = st.integers(1, 600), st.floats(0, 1, exclude_max=True)
SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))


@pytest.mark.parametrize(
    ("picture", "size", "share", "window"),
    [
        ((100, 200), (10, 10), 1.0, Window(0, 50, 100, 100)),
        ((200, 100), (10, 20), 1.0, Window(75, 0, 50, 100)),
        ((256, 256), (224, 224), 0.875, Window(16, 16, 224, 224)),
        ((8, 8), (8, 8), 1.0, Window(0, 0, 8, 8)),
    ],
)
def test_the_middle_window_is_the_largest_of_its_shape(picture, size, share, window):
    height, width = picture
    assert centred(height, width, size, share) == window


@given(PIXELS, PIXELS, SIZES, st.tuples(SHARES, SHARES, SHARES, SHARES))
def test_windows_lie_within_the_picture(height, width, size, draw):
    for window in (centred(height, width, size), drawn(height, width, size, (0.08, 1.0), draw)):
        assert 0 <= window.top <= window.top + window.height <= height
        assert 0 <= window.left <= window.left + window.width <= width
        assert min(window.height, window.width) >= 1


def test_the_draw_decides_area_shape_and_place():
    # A half of the way between 0.2 and 0.6 of 100 x 400, in the shape asked for: 1 to 4.
    assert drawn(100, 400, (10, 40), (0.2, 0.6), (0.5, 0.5, 0.0, 0.0)) == Window(0, 0, 63, 253)
    last = math.nextafter(1, 0)
    assert drawn(100, 400, (10, 40), (0.2, 0.6), (0.5, 0.5, last, last)) == Window(37, 147, 63, 253)
    # Shapes go from 3/4 to 4/3 of it: 0.25 of 1200 x 1200 is 600 x 600.
    assert drawn(1200, 1200, (1, 1), (0.25, 0.25), (0, 0, 0, 0)) == Window(0, 0, 693, 520)
    assert drawn(1200, 1200, (1, 1), (0.25, 0.25), (0, last, 0, 0)) == Window(0, 0, 520, 693)
