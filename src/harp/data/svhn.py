"""SVHN (Netzer et al., 2011), cropped digits, from the published MATLAB files or from Parquet."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from harp.data.base import DATA, Dataset, Images, Labelled, located, required, usual_place
from harp.data.bounds import check_packed
from harp.data.parquet import read_parquet
from harp.data.shards import has_shards
from harp.errors import HarpError, choices

HEAD, COMPRESSED, CHUNK = 128, 15, 1 << 16
TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
DIGITS = tuple(str(digit) for digit in range(10))


@DATA.register("svhn")
def svhn(path: Path | None) -> Dataset:
    """SVHN: 73,257 + 26,032 colour images of house numbers, 32x32, 10 digits; the published .mat files or Parquet.

    Looked for as `cifar10` is, under the name `svhn`. Never mirrored, padded by 4 pixels in training; the part called
    extra is not read. Its digits are not equally frequent, of which a note tells. Raises `HarpError` where it is not
    there, not whole, or has classes other than the digits.
    """
    what = f"a folder with {TRAIN} and {TEST}, or with train-*.parquet; HARP_DATA or data.path says where"
    root = required(usual_place("svhn") if path is None else path, "svhn", what)
    train: Labelled
    test: Labelled
    notes: tuple[str, ...] = ()
    if (root / TRAIN).is_file():
        train, test = _read(root / TRAIN), _read(root / TEST)
    elif has_shards(root):
        train, test, names, notes = read_parquet(root)
        if names not in (None, DIGITS):
            raise HarpError(f"data set 'svhn': {root} has the classes {', '.join(names or ())}; expected the digits")
    else:
        raise HarpError(f"data set 'svhn': {root} holds neither form; expected {what}")
    found = Dataset("svhn", train, test, DIGITS, flip=False, pad=4, notes=notes)
    # Counted once labels are known to be digits: a table up to the largest of any would be as long as that.
    return replace(found, notes=(*notes, _imbalance(test)))


def _imbalance(test: Labelled) -> str:
    counts = torch.bincount(test.labels, minlength=len(DIGITS))
    least, most = int(counts.min()), int(counts.max())
    return (
        f"svhn's classes are unequal, {least:,} to {most:,} test images each: "
        "read the rows in which classes count alike beside the plain ones"
    )


def _read(file: Path) -> Images:
    arrays = _arrays(file)
    pixels, labels = arrays["X"], arrays["y"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise HarpError(f"{file}: X is {pixels.dtype} {pixels.shape}; expected uint8 (32, 32, 3, n)")
    count = pixels.shape[3]
    if labels.shape != (count, 1) or labels.dtype.kind not in "iuf":
        raise HarpError(f"{file}: y is {labels.dtype} {labels.shape}; expected numbers ({count}, 1), one per image")
    if not np.isin(labels, range(1, 11)).all():
        raise HarpError(f"{file}: y goes from {labels.min():g} to {labels.max():g}; expected 1 to 10, which is digit 0")
    with located(str(file)):
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
        return Images(images, torch.from_numpy(labels[:, 0].astype(np.int64) % 10))


def _check_elements(file: Path) -> None:
    """Raises `HarpError` for a compressed part of the file (MAT-File Format, level 5) that unpacks to far too much."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        head = stream.read(HEAD)
        order: Literal["little", "big"] = "little" if head[126:128] == b"IM" else "big"
        while len(tag := stream.read(8)) == 8:
            kind, length = (int.from_bytes(tag[start : start + 4], order) for start in (0, 4))
            if kind != COMPRESSED:
                return  # what is not compressed is no larger than the file
            packed = min(length, size)
            unpacking, made, end = zlib.decompressobj(), 0, stream.tell() + length
            for _ in range(0, packed, CHUNK):
                data = stream.read(min(CHUNK, end - stream.tell()))
                while data:
                    try:
                        made += len(unpacking.decompress(data, CHUNK))
                    except zlib.error:
                        return  # loadmat says what is wrong with it
                    check_packed(str(file), made, packed)
                    data = unpacking.unconsumed_tail
            stream.seek(end)


def _arrays(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    if not file.is_file():
        raise HarpError(f"no file {file}; expected both {TRAIN} and {TEST}")
    # Imported late: only these files need it.
    from scipy.io import loadmat

    _check_elements(file)
    try:
        found = loadmat(file, appendmat=False)
    # What scipy raises for a damaged file depends on the byte: its own errors, zlib's, numpy's, KeyError, MemoryError.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise HarpError(f"{file} is not a whole MATLAB file: {reason}") from error
    held = [name for name in found if not name.startswith("__")]
    for name in ("X", "y"):
        if not isinstance(found.get(name), np.ndarray):
            raise HarpError(f"{file} has no array {name!r}; {choices(name, held)}")
    return {name: found[name] for name in ("X", "y")}
