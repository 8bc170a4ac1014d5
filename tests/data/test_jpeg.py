"""simplejpeg and Pillow give the same pixels of every picture, whatever its kind."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from harp.data import jpeg, pictures
from harp.data.jpeg import Header, fast, header, scale
from harp.data.pictures import Fit, picture
from harp.errors import HarpError

needs_simplejpeg = pytest.mark.skipif(find_spec("simplejpeg") is None, reason="simplejpeg is not installed")


def photo(height: int, width: int, mode: str = "RGB", **options) -> bytes:
    """A JPEG with something like a photo's spectrum: blurred noise and some of it sharp."""
    draws = np.random.default_rng(height * 1000 + width)
    coarse = Image.fromarray(draws.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse).astype(int) + draws.integers(-30, 30, (height, width, 3))
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


EXIF = Image.Exif()
EXIF[pictures.ORIENTATION] = 6
KINDS = {
    "4:4:4": photo(75, 101, subsampling=0, quality=95),
    "4:2:0": photo(75, 101, subsampling=2),
    "progressive": photo(131, 70, progressive=True),
    "grey": photo(75, 101, "L"),
    "four colours": photo(75, 101, "CMYK"),
    "red, green, blue": photo(75, 101, keep_rgb=True),
    "turned": photo(75, 101, exif=EXIF),
    "large": photo(300, 500),
    "small": photo(9, 7),
}
FITS = [None, Fit((32, 32)), Fit((20, 36), 0.875), Fit((8, 8)), Fit((24, 24), 1.0, (0.08, 1.0), (0.3, 0.8, 0.2, 0.6))]


@needs_simplejpeg
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_same_without_simplejpeg(kind, monkeypatch):
    with_it = [picture(kind, KINDS[kind], fit) for fit in FITS]
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    for fit, found in zip(FITS, with_it, strict=True):
        assert np.array_equal(found, picture(kind, KINDS[kind], fit))


@needs_simplejpeg
def test_plain_pictures_go_the_fast_way():
    data = photo(300, 500)
    found = header(data)
    assert found == Header(300, 500, 3)
    for by in (1, 2, 4, 8):
        pixels = fast(data, found, by)
        assert pixels is not None
        assert pixels.shape == (-(-300 // by), -(-500 // by), 3)


@pytest.mark.parametrize("kind", ["four colours", "red, green, blue", "turned"])
def test_what_is_not_plain_is_left_to_pillow(kind):
    assert header(KINDS[kind]) is None


def test_a_plain_header_tells_size_and_channels():
    assert header(KINDS["grey"]) == Header(75, 101, 1)
    assert header(KINDS["progressive"]) == Header(131, 70, 3)
    assert header(b"\x89PNG\r\n\x1a\n") is None
    for length in range(0, 700, 7):
        assert header(KINDS["4:2:0"][:length]) in (None, Header(75, 101, 3))


@pytest.mark.parametrize(
    ("height", "width", "needed", "by"),
    [(512, 512, (2, 2), 2), (512, 512, (9, 3), 2), (512, 512, (8, 8), 8), (512, 512, (1, 9), 1), (63, 512, (8, 8), 1)],
)
def test_sides_are_divided_by_what_leaves_enough(height, width, needed, by):
    assert scale(Header(height, width, 3), needed) == by


@pytest.mark.parametrize("without", [False, True])
def test_a_picture_that_is_cut_off_is_named(without, monkeypatch):
    if without:
        monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    for fit in (None, Fit((32, 32))):
        with pytest.raises(HarpError, match=r"^there.jpg is not a whole picture"):
            picture("there.jpg", KINDS["large"][:-2000], fit)
