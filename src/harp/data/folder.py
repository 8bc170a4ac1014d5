"""Image files sorted into one folder per class."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import torch

from harp.data.base import DATA, Dataset, Images, required, unknown
from harp.data.files import Files
from harp.data.pictures import decode
from harp.data.reading import AS_THEY_ARE, Reading
from harp.data.stored import IN_FILES, stored
from harp.errors import HarpError, choices

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
UNREAD = (".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".tga", ".dng", ".exr")  # pictures, but not of ours
TEST = ("test", "val")
# What archivers, file servers and systems leave behind; whatever begins with a dot is passed over, too.
LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


@DATA.register("folder")
def folder(path: Path | None, reading: Reading = AS_THEY_ARE) -> Dataset:
    """A folder with train/<class>/ and test/<class>/ (or val/<class>/) full of PNG, JPEG or similar files.

    Classes are train's subfolders in sorted order; files may lie deeper within them, and files of other kinds, hidden
    files and folders, and what archivers leave behind are passed over; so is a test folder without class folders where
    there is a val, with a note. Images are grey where every file of a part is, else colour. Never mirrored, padded by
    an eighth of the side.

    Raises `HarpError` for a missing part, a class without images, a test class that training lacks, two classes whose
    names look alike, a picture of a kind that is not read, a file that cannot be read, a link that leads nowhere or
    back to itself, and images of unequal size.
    """
    root = required(path, "folder", "a folder with train/<class>/ and test/<class>/")
    train = root / "train"
    parts = [root / name for name in TEST if (root / name).is_dir()]
    if not train.is_dir() or not parts:
        raise HarpError(f"{root} lacks the folder train, or test (or val), with one folder per class in it")
    test = next((part for part in parts if _classes(part)), parts[0])
    classes, tested = _classes(train), _classes(test)
    if strange := sorted(set(tested) - set(classes)):
        raise HarpError(f"{test} has the class {strange[0]!r}, which {train} has not; {choices(strange[0], classes)}")
    numbers = {name: number for number, name in enumerate(classes)}
    passed = [f"{parts[0]} holds no class folder, so the test images are those of {test}"] if test != parts[0] else []
    found = [_found(train, classes, numbers), _found(test, tested, numbers)]
    if made := stored(found, reading):
        return unknown("folder", *made, tuple(classes), (*passed, IN_FILES))
    held = [_read(*part, reading) for part in found]
    return unknown("folder", held[0], held[1], tuple(classes), tuple(passed))


def _classes(part: Path) -> dict[str, Path]:
    """The class folders of a part by name, in order; a name is the same however its accents are encoded."""
    found: dict[str, Path] = {}
    for entry in sorted(part.iterdir()):
        name = unicodedata.normalize("NFC", entry.name)
        if entry.is_dir() and not _is_litter(entry.name):
            if name in found:
                raise HarpError(f"{part} has two class folders called {name!r}, with accents encoded differently")
            found[name] = entry
    return dict(sorted(found.items()))


def _found(part: Path, places: dict[str, Path], numbers: dict[str, int]) -> tuple[Files, list[int]]:
    """The pictures of a part, and the number of each one's class."""
    if not places:
        raise HarpError(f"{part} holds no class folder; expected one per class")
    labels: list[int] = []

    def pictures() -> Iterator[Path]:
        for name, place in places.items():
            found = _files(place)
            labels.extend([numbers[name]] * len(found))
            yield from found

    return Files(part, pictures()), labels


def _read(files: Files, labels: list[int], reading: Reading) -> Images:
    pictures = ((files.where(number), files.path(number)) for number in range(len(files)))
    return Images(decode(pictures, reading.fit, reading.threads), torch.tensor(labels))


def _files(place: Path) -> list[Path]:
    found = sorted(_pictures(place, ()))
    if not found:
        raise HarpError(f"{place} holds no image; expected files ending in {', '.join(SUFFIXES)}")
    return found


def _pictures(place: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """The pictures in and below `place`; links are followed, but not in circles."""
    here = os.path.realpath(place)
    if here in above:
        raise HarpError(f"{place} is a link that leads back to a folder it lies in; remove it")
    for entry in place.iterdir():
        if _is_litter(entry.name):
            continue
        if entry.is_dir():
            yield from _pictures(entry, (*above, here))
        elif entry.suffix.lower() in UNREAD:
            raise HarpError(f"{entry} is a picture of a kind that is not read; convert it to PNG, or move it away")
        elif entry.suffix.lower() in SUFFIXES:
            if not entry.is_file():
                raise HarpError(f"{entry} is no file but a link that leads nowhere, or a device; remove it")
            yield entry


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in LITTER
