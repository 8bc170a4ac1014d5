import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harp.data.pictures import decode
from harp.errors import HarpError

from .samples import BLUE, RED, png


def test_colours_become_planes():
    images = decode([("one", png(RED)), ("two", png(BLUE, kind="BMP"))])
    assert images.shape == (2, 3, 4, 4)
    assert images[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_grey_pictures_stay_grey_and_join_coloured_ones():
    assert decode([("one", png(7, mode="L"))]).shape == (1, 1, 4, 4)
    mixed = decode([("one", png(7, mode="L")), ("two", png(RED))])
    assert mixed[:, :, 0, 0].tolist() == [[7, 7, 7], [255, 0, 0]]


@pytest.mark.parametrize(
    ("mode", "colour", "pixel"),
    [("1", 1, [255]), ("LA", (9, 0), [9]), ("P", 0, [0, 0, 0]), ("RGBA", (1, 2, 3, 0), [1, 2, 3])],
)
def test_other_modes_are_converted(mode, colour, pixel):
    assert decode([("one", png(colour, mode=mode))])[0, :, 0, 0].tolist() == pixel


def test_height_and_width_keep_their_places():
    assert decode([("one", png(RED, size=(5, 2)))]).shape == (1, 3, 2, 5)


def test_the_first_odd_size_is_named():
    pictures = [("one", png(RED)), ("two", png(RED, size=(5, 4))), ("three", png(RED, size=(6, 4)))]
    with pytest.raises(HarpError, match="two is 4x5 pixels, the first picture 4x4"):
        decode(pictures)


def test_deep_pixels_are_refused():
    with pytest.raises(HarpError, match="one has pixels of mode I;16; expected 8 bits"):
        decode([("one", png(300, mode="I;16"))])


def test_no_picture_is_refused():
    with pytest.raises(HarpError, match="no pictures"):
        decode([])


@given(st.integers(0, len(png(RED)) - 1))
def test_a_cut_picture_is_named(length):
    with pytest.raises(HarpError, match="shard 3 is not a whole picture"):
        decode([("shard 3", png(RED)[:length])])


@given(st.integers(0, len(png(RED)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place, change):
    damaged = bytearray(png(RED))
    damaged[place] ^= change
    with pytest.raises(HarpError, match="shard 3 is not a whole picture"):
        decode([("shard 3", bytes(damaged))])


@given(st.integers(0, len(png(RED, kind="JPEG")) - 1))
def test_half_a_jpeg_raises_nothing_but_ours(length):
    with suppress(HarpError):
        decode([("shard 3", png(RED, kind="JPEG")[:length])])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HarpError, match=r"one is not a whole picture: .*No such file"):
        decode([("one", tmp_path / "missing.png")])


def test_without_pillow_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(HarpError, match=r"needs PIL; install it with pip install 'harp-pruning\[images\]'"):
        decode([])
