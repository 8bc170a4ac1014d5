"""Encoded pictures (PNG, JPEG, ...) decoded into one tensor."""

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

PNG = b"\x89PNG\r\n\x1a\n"


def decode(pictures: Iterable[tuple[str, bytes | Path]]) -> Tensor:
    """All pictures as uint8 [n, c, h, w]: c = 1 where every one is grey, else c = 3; alpha is dropped.

    Pictures are turned upright as their EXIF data says; of several frames the first is read. Each picture comes with
    the words that say where it is. Raises `HarpError` for a picture that cannot be read, has more than 8 bits per
    channel, or differs in size from the first one, and where there is none at all.
    """
    image = need("PIL.Image", "images")
    arrays: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    for where, data in pictures:
        array = _read(image, where, data)
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise HarpError(
                f"{where} is {array.shape[0]}x{array.shape[1]} pixels, the first picture "
                f"{arrays[0].shape[0]}x{arrays[0].shape[1]}; expected one size"
            )
        arrays.append(array)
    if not arrays:
        raise HarpError("there are no pictures; expected at least one")
    channels = max(array.shape[2] for array in arrays)
    stack = np.stack([np.broadcast_to(array, (*array.shape[:2], channels)) for array in arrays])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def _read(image: Any, where: str, data: bytes | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture as uint8 [h, w, c] with c = 1 or 3."""
    try:
        encoded = data if isinstance(data, bytes) else data.read_bytes()
        if encoded.startswith(PNG):
            _check_png(encoded)
        with image.open(io.BytesIO(encoded)) as picture:
            if picture.mode not in GREY | COLOUR:
                raise HarpError(f"{where} has pixels of mode {picture.mode}; expected 8 bits per channel")
            picture.load()  # what says how it lies may stand behind the pixels
            upright = _upright(image, picture)
            pixels = np.array(upright.convert("L" if picture.mode in GREY else "RGB"))
    # What Pillow raises depends on the format and on where the damage lies.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, image.DecompressionBombError) as error:
        raise HarpError(f"{where} is not a whole picture: {error}") from None
    return pixels.reshape(*pixels.shape[:2], -1)


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
