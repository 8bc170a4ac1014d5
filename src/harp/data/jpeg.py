"""JPEG files that are plain enough for the fast decoder, told by their headers."""

from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from harp.extras import need

START, SCAN, APP1, ADOBE = b"\xff\xd8", 0xDA, 0xE1, 0xEE
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: all with Huffman codes
BARE = (0x01, *range(0xD0, 0xD9), 0xFF)  # markers without a length
LEAST = 64  # pixels of a side from which each of the scales below gives a size of its own
SCALES = (8, 4, 2)
# Of a picture this large Pillow warns, of twice as many pixels it refuses it.
LARGEST = 89_478_485

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Header(NamedTuple):
    """Height and width in pixels, and 1 for grey, 3 for colour."""

    height: int
    width: int
    channels: int


def header(data: bytes) -> Header | None:
    """What a plain JPEG file's header says; None for any other file.

    Plain is grey or YCbCr with 8 bits, neither turned nor stretched by metadata (EXIF and XMP come in APP1), of no
    size that Pillow would complain of. Of these all decoders built on libjpeg-turbo give the same pixels.
    """
    place, found = 2, None
    if not data.startswith(START):
        return None
    while data[place : place + 1] == b"\xff" and place + 9 < len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in BARE or marker == APP1 or length < 2:
            return None
        if marker == SCAN:
            return found
        body = data[place + 4 : place + 2 + length]
        if marker == ADOBE and body.startswith(b"Adobe") and body[11:12] == b"\0":
            return None  # its three channels are red, green and blue
        if marker in FRAMES:
            found = _frame(body)
        place += 2 + length
    return None


def _frame(body: bytes) -> Header | None:
    if len(body) < 6 or body[0] != 8:
        return None
    found = Header(int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5])
    names = body[6::3]
    if found.channels not in (1, 3) or names == b"RGB" or not 0 < found.height * found.width <= LARGEST:
        return None
    return found


def scale(found: Header, needed: tuple[int, int]) -> int:
    """By how much (1, 2, 4, 8) the sides may be divided in decoding so that `needed` of a window's remain.

    `needed` says how many times a window's height and width hold what is to be made of it, rounded down.
    """
    if min(found.height, found.width) < LEAST:
        return 1
    return next((by for by in SCALES if by <= min(needed)), 1)


def fast(data: bytes, found: Header, by: int) -> Pixels | None:
    """The plain picture's pixels, uint8 [h, w, c], its sides divided by `by` and rounded up; None leaves it to Pillow.

    That is where simplejpeg is not installed, or where it finds fault: Pillow then says with what, or overlooks it.
    Raises `HarpError` for a simplejpeg that is installed and broken.
    """
    decoder = _decoder()
    if decoder is None:
        return None
    height, width = (-(-side // by) for side in found[:2])
    try:
        pixels: Pixels = decoder.decode_jpeg(
            data, "GRAY" if found.channels == 1 else "RGB", min_height=height, min_width=width
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, found.channels) else None


@cache
def _decoder() -> Any:
    return None if find_spec("simplejpeg") is None else need("simplejpeg", "fast-jpeg", "decoding")
