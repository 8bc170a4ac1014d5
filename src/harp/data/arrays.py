"""A data set as four arrays in one numpy file."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harp.data.base import DATA, Dataset, Images, located, required, unknown
from harp.data.bounds import check_packed
from harp.errors import HarpError, choices

CLASSES = "class_names"
NAMES = ("train_images", "train_labels", "test_images", "test_labels")


@DATA.register("arrays")
def arrays(path: Path | None) -> Dataset:
    """An .npz file with train_images, train_labels, test_images and test_labels, as `numpy.savez` writes it.

    Images are [n, c, h, w], uint8 or floating point in [0, 1] (kept as float32); labels whole numbers [n] from 0. The
    class names are the numbers, or those in one more array, class_names, of text. Never mirrored, padded by an eighth
    of the side. Raises `HarpError` for a file that is damaged, lacks an array or holds Python objects, and for images
    or labels of other form or range.
    """
    file = required(path, "arrays", f"an .npz file with {', '.join(NAMES)}")
    found = _read(file)
    train = _images(file, "train", found)
    test = _images(file, "test", found)
    return unknown("arrays", train, test, _names(file, found))


def _names(file: Path, found: dict[str, np.ndarray[Any, Any]]) -> tuple[str, ...] | None:
    names = found.get(CLASSES)
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise HarpError(f"{file}: {CLASSES} are {names.dtype} {names.shape}; expected a row of text, a name a class")
    return tuple(str(name) for name in names)


def _read(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for member in archive.zip.infolist():
                check_packed(f"{file}, {member.filename}", member.file_size, member.compress_size)
            missing = [name for name in NAMES if name not in archive]
            if missing:
                raise HarpError(f"{file} lacks the array {missing[0]!r}; {choices(missing[0], archive)}")
            return {name: archive[name] for name in (*NAMES, CLASSES) if name in archive}
    # TypeError: a single .npy array is no archive.
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        MemoryError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise HarpError(f"{file} is not a whole .npz file of plain arrays: {error}") from None


def _images(file: Path, part: str, found: dict[str, np.ndarray[Any, Any]]) -> Images:
    images, labels = found[f"{part}_images"], found[f"{part}_labels"]
    with located(f"{file}, {part} part"):
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise HarpError(f"images are {images.dtype}; expected uint8, or floating point in [0, 1]")
        if not np.issubdtype(labels.dtype, np.integer):
            raise HarpError(f"labels are {labels.dtype}; expected whole numbers")
        kept = np.uint8 if images.dtype == np.uint8 else np.float32
        return Images(
            torch.from_numpy(np.ascontiguousarray(images, kept)),
            torch.from_numpy(np.ascontiguousarray(labels, np.int64)),
        )
