"""Encoded pictures (PNG, JPEG, ...) decoded into one tensor."""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harp.data.ahead import ahead
from harp.data.bounds import FREE, RATIO, check_encoded
from harp.data.jpeg import LARGEST, Pixels, fast, header, scale
from harp.data.windows import Range, Window, centred, drawn
from harp.errors import HarpError
from harp.extras import need

# Pillow's modes of at most 8 bits per channel, and what each becomes; deeper ones would be clipped.
GREY = {"1", "L", "LA"}
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}

# EXIF 2.32, tag 0x0112: how the stored picture is turned to be seen upright (1 is as it is).
ORIENTATION = 0x0112
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""All that Pillow may take a picture for; of what else it knows, EPS would be handed to a program of its own."""

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Fit:
    """How a picture becomes one of `size` (h, w): a window is cut out and resized.

    The window is that of `windows.drawn` where there is a `draw` of four numbers, for the range `area`; else the middle
    one, its sides times `centre`.
    """

    size: tuple[int, int]
    centre: float = 1.0
    area: Range = (1.0, 1.0)
    draw: Sequence[float] | None = None

    def window(self, height: int, width: int) -> Window:
        """The window of a picture of so many pixels."""
        if self.draw is None:
            return centred(height, width, self.size, self.centre)
        return drawn(height, width, self.size, self.area, self.draw)


def decode(pictures: Iterable[tuple[str, bytes | Path]], fit: Fit | None = None, workers: int = 1) -> Tensor:
    """All pictures as uint8 [n, c, h, w]: c = 1 where every one is grey, else c = 3; alpha is dropped.

    Pictures are turned upright as their EXIF data says; of several frames the first is read; with a `fit` each is made
    to. Each picture comes with the words that say where it is; `workers` threads read them. Raises `HarpError` for a
    picture that cannot be read, has more than 8 bits per channel, or differs in size from the first one, and where
    there is none at all.
    """
    need("PIL.Image", "images")
    arrays: list[Pixels] = []
    for where, array in ahead(lambda one: (one[0], picture(*one, fit)), pictures, workers, 4 * workers):
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise HarpError(
                f"{where} is {array.shape[0]}x{array.shape[1]} pixels, the first picture "
                f"{arrays[0].shape[0]}x{arrays[0].shape[1]}; expected one size, or data.size, to which all are resized"
            )
        arrays.append(array)
    if not arrays:
        raise HarpError("there are no pictures; expected at least one")
    channels = max(array.shape[2] for array in arrays)
    stack = np.stack([np.broadcast_to(array, (*array.shape[:2], channels)) for array in arrays])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def picture(where: str, data: bytes | Path, fit: Fit | None = None) -> Pixels:
    """The picture as uint8 [h, w, c] with c = 1 or 3, made to `fit` where there is one; raises `HarpError` as `decode`.

    A plain JPEG is decoded by simplejpeg where that is installed, and to the smallest of its size and a half, a quarter
    and an eighth of it that its window need not be magnified from. The pixels are the same with Pillow alone.
    """
    try:
        check_encoded(where, len(data) if isinstance(data, bytes) else data.stat().st_size)
        encoded = data if isinstance(data, bytes) else data.read_bytes()
    except OSError as error:
        raise HarpError(f"{where} is not a whole picture: {error}") from None
    found, by = header(encoded), 1
    if found is not None:
        _check_pixels(where, found.height, found.width, len(encoded))
        if fit is not None:
            window = fit.window(found.height, found.width)
            by = scale(found, (window.height // fit.size[0], window.width // fit.size[1]))
        pixels = fast(encoded, found, by)
        if pixels is not None:
            return resized(pixels, fit) if fit else pixels
    pixels = _by_pillow(where, encoded, by)
    return resized(pixels, fit) if fit else pixels


def resized(pixels: Pixels, fit: Fit) -> Pixels:
    """The window that `fit` cuts out of the pixels (uint8 [h, w, c]), resized: bilinear, over all pixels that count."""
    window = fit.window(*pixels.shape[:2])
    cut = pixels[window.top : window.top + window.height, window.left : window.left + window.width]
    if cut.shape[:2] == fit.size:
        return cut
    # Three times as fast as Pillow's of the same kind.
    planes = torch.from_numpy(np.ascontiguousarray(cut)).permute(2, 0, 1)[None]
    made = functional.interpolate(planes, fit.size, mode="bilinear", antialias=True)[0]
    found: Pixels = made.permute(1, 2, 0).numpy()
    return found


def _by_pillow(where: str, encoded: bytes, by: int) -> Pixels:
    image = need("PIL.Image", "images")
    try:
        if encoded.startswith(PNG):
            _check_png(encoded)
        with image.open(io.BytesIO(encoded), formats=FORMATS) as opened:
            _check_pixels(where, opened.height, opened.width, len(encoded))
            if opened.mode not in GREY | COLOUR:
                raise HarpError(f"{where} has pixels of mode {opened.mode}; expected 8 bits per channel")
            if by > 1:
                opened.draft(opened.mode, (opened.width // by, opened.height // by))
            opened.load()  # what says how it lies may stand behind the pixels
            upright = _upright(image, opened)
            pixels = np.array(upright.convert("L" if opened.mode in GREY else "RGB"))
    except image.UnidentifiedImageError:
        raise HarpError(f"{where} is not a whole picture: it is none of {', '.join(FORMATS)}") from None
    # What Pillow raises depends on the format and on where the damage lies.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, image.DecompressionBombError) as error:
        raise HarpError(f"{where} is not a whole picture: {error}") from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_pixels(where: str, height: int, width: int, encoded: int) -> None:
    """Raises `HarpError` for more pixels than the file can be a picture of, before any is decoded."""
    most = min(LARGEST, max(FREE // 4, RATIO * encoded))  # Pillow takes four bytes a pixel
    if height * width > most:
        raise HarpError(
            f"{where} says that it is {height}x{width} pixels, in {encoded:,} bytes; expected at most {most:,}"
        )


def _upright(image: Any, picture: Any) -> Any:
    """The loaded picture as its EXIF data says that it is to be seen."""
    # What Pillow raises depends on how the data is damaged; a picture without legible data lies as it lies.
    try:
        orientation = picture.getexif().get(ORIENTATION)
    except Exception:
        return picture
    turn = TURNS.get(orientation)
    return picture.transpose(image.Transpose[turn]) if turn else picture


def _check_png(data: bytes) -> None:
    # Pillow skips the checksum of the pixel data: a flipped bit at its end gives other pixels and no error.
    start = len(PNG)
    while start < len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 8 + length
        if zlib.crc32(data[start + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"the checksum of its chunk {kind!r} is wrong")
        if kind == b"IEND":
            return
        start = end + 4
    raise ValueError("it ends before its last chunk")
