import io
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

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


# Bright above, as seen; what is stored is undone by the turn that the number asks for.
SEEN = np.repeat(np.array([250, 170, 90, 10], np.uint8)[:, None], 4, 1) + np.arange(4, dtype=np.uint8)
STORED = {
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.T,
    6: np.rot90(SEEN, 1),
    7: SEEN[::-1, ::-1].T,
    8: np.rot90(SEEN, -1),
}


def photo(pixels, orientation, kind, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_are_turned_as_they_are_to_be_seen(kind, orientation):
    seen = decode([("one", photo(STORED[orientation], orientation, kind))])[0, 0].numpy()
    assert np.array_equal(seen, SEEN)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})])
def test_so_are_those_that_are_stored_with_loss(kind, orientation, options):
    large = np.kron(STORED[orientation], np.ones((4, 4), np.uint8))
    seen = decode([("one", photo(large, orientation, kind, **options))])[0, 0, 2::4, 2::4].numpy()
    assert np.abs(seen.astype(int) - SEEN).max() <= 3


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    assert np.array_equal(decode([("one", photo(SEEN, orientation, "PNG"))])[0, 0].numpy(), SEEN)


def test_portrait_and_landscape_are_of_one_size_once_upright():
    wide = np.zeros((3, 5), np.uint8)
    pictures = [("one", photo(wide, 1, "PNG")), ("two", photo(np.rot90(wide, 1), 6, "PNG"))]
    assert decode(pictures).shape == (2, 1, 3, 5)


def test_a_damaged_orientation_leaves_the_picture_as_it_lies():
    stream = io.BytesIO()
    Image.fromarray(SEEN).save(stream, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(decode([("one", stream.getvalue())])[0, 0].numpy(), SEEN)


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
