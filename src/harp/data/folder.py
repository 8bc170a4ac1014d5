"""Image files sorted into one folder per class."""

from pathlib import Path

import torch
from torch import Tensor

from harp.data.base import DATA, Dataset, Images, required, unknown
from harp.data.pictures import decode
from harp.errors import HarpError, choices

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
TEST = ("test", "val")


@DATA.register("folder")
def folder(path: Path | None) -> Dataset:
    """A folder with train/<class>/ and test/<class>/ (or val/<class>/) full of PNG, JPEG or similar files.

    Classes are train's subfolders in sorted order; files may lie deeper within them, and files of other kinds
    and hidden ones are passed over. Images are grey where every file of a part is, else colour. Never
    mirrored, padded by an eighth of the side. Raises `HarpError` for a missing part, a class without images,
    a test class that training lacks, a file that cannot be read, and images of unequal size.
    """
    root = required(path, "folder", "a folder with train/<class>/ and test/<class>/")
    train = root / "train"
    test = next((root / name for name in TEST if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise HarpError(f"{root} lacks the folder train, or test (or val), with one folder per class in it")
    classes = _classes(train)
    if strange := sorted(set(_classes(test)) - set(classes)):
        raise HarpError(f"{test} has the class {strange[0]!r}, which {train} has not; {choices(strange[0], classes)}")
    return unknown("folder", _read(train, classes), _read(test, _classes(test), classes), tuple(classes))


def _classes(part: Path) -> list[str]:
    return sorted(entry.name for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read(part: Path, present: list[str], classes: list[str] | None = None) -> Images:
    """The images of the classes `present`, labelled by place in `classes` (by default, in `present`)."""
    numbers = {name: number for number, name in enumerate(classes or present)}
    files = [(file, numbers[name]) for name in present for file in _files(part / name)]
    if not files:
        raise HarpError(f"{part} holds no class folder; expected one per class")
    images: Tensor = decode((str(file), file) for file, _ in files)
    return Images(images, torch.tensor([label for _, label in files]))


def _files(place: Path) -> list[Path]:
    found = sorted(file for file in place.rglob("*") if _is_picture(file))
    if not found:
        raise HarpError(f"{place} holds no image; expected files ending in {', '.join(SUFFIXES)}")
    return found


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
