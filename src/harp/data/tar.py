"""Image classification sets as tar files, in the layout that WebDataset uses."""

import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import torch

from harp.data.base import DATA, Dataset, Images, required, unknown, whole_label
from harp.data.bounds import check_encoded
from harp.data.folder import SUFFIXES
from harp.data.pictures import decode
from harp.data.reading import AS_THEY_ARE, Reading
from harp.data.shards import find_shards, whole
from harp.data.stamps import Stamp, read_stamped, stamped
from harp.data.stored import IN_FILES, Digest, stored
from harp.errors import HarpError

LABEL = ".cls"
LONGEST = 64  # bytes of a label


@DATA.register("tar")
def tar(path: Path | None, reading: Reading = AS_THEY_ARE) -> Dataset:
    """A folder with train-*.tar and test-*.tar (or validation-*, val-*): KEY.jpg with its class's number in KEY.cls.

    The files may lie in one subfolder. Pictures are PNG, JPEG or similar; members of other kinds are passed over.
    Never mirrored, padded by an eighth of the side. Raises `HarpError` for a missing part or shard, a compressed or
    damaged tar file, a picture without a label or with two, a label that is no whole number, a picture that cannot be
    read (naming file and member), and images of unequal size.
    """
    root = required(path, "tar", "a folder with train-*.tar and test-*.tar")
    train, tests = find_shards(root, "tar")
    parts = [Members(train), Members(whole(next(iter(tests.values()))))]
    if made := stored([(part, part.labels) for part in parts], reading):
        return unknown("tar", *made, None, (IN_FILES,))
    held = [_read(part, reading) for part in parts]
    return unknown("tar", held[0], held[1], None)


class Members:
    """The `Places` of the pictures in tar `files`, and their `labels`; for what it raises see `tar`."""

    def __init__(self, files: list[Path]):
        self.files = files
        self.labels: list[int] = []
        self._stamps = [stamped(file) for file in files]
        self._starts, self._offsets, self._sizes = array("q", [0]), array("q"), array("q")
        for file, stamp in zip(files, self._stamps, strict=True):
            for offset, size, label in _pictures(file, stamp):
                self._offsets.append(offset)
                self._sizes.append(size)
                self.labels.append(label)
            self._starts.append(len(self.labels))
        if not self.labels:
            raise HarpError(f"{files[0].parent} holds no picture in {files[0].name}, with a label in its {LABEL}")

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, number: int) -> str:
        shard = self._shard(number)
        return f"{self.files[shard]}, picture {number - self._starts[shard]}"

    def read(self, number: int) -> bytes:
        shard = self._shard(number)
        return read_stamped(self.files[shard], self._stamps[shard], self._offsets[number], self._sizes[number])

    def update(self, digest: Digest) -> None:
        for file, stamp in zip(self.files, self._stamps, strict=True):
            digest.update(f"{file.name} {stamp.size}".encode())
        for held in (self._starts, self._offsets, self._sizes):
            digest.update(memoryview(held).cast("B"))

    def _shard(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1


def _read(places: Members, reading: Reading) -> Images:
    pictures = ((places.where(number), places.read(number)) for number in range(len(places)))
    return Images(decode(pictures, reading.fit, reading.threads), torch.tensor(places.labels))


def _pictures(file: Path, stamp: Stamp) -> Iterator[tuple[int, int, int]]:
    """Offset, bytes and label of each picture in the file, in its order."""
    pictures: dict[str, tuple[int, int]] = {}
    labels: dict[str, tuple[int, int]] = {}
    for member in _members(file, stamp):
        folder, _, name = member.name.rpartition("/")
        key, _, kind = name.partition(".")
        suffix = f".{kind.lower()}"
        held = pictures if suffix in SUFFIXES else labels if suffix == LABEL else None
        if held is None or not member.isfile() or name.startswith("."):
            continue
        if (whole_key := f"{folder}/{key}") in held:
            raise HarpError(f"{file}: {member.name} is a second one of its name; expected one picture and one {LABEL}")
        held[whole_key] = member.offset_data, member.size
    for key, (offset, size) in pictures.items():
        if key not in labels:
            raise HarpError(f"{file}: the picture {key.strip('/')} has no {LABEL} beside it, which holds its label")
        check_encoded(f"{file}: {key.strip('/')}", size)
        if offset + size > stamp.size:
            raise HarpError(f"{file} is cut off: the picture {key.strip('/')} would end after the file")
        if labels[key][1] > LONGEST:
            raise HarpError(
                f"{file}: the label of {key.strip('/')} has {labels[key][1]:,} bytes; expected a whole number"
            )
        yield offset, size, _label(file, key, read_stamped(file, stamp, *labels[key]))


def _label(file: Path, key: str, data: bytes) -> int:
    try:
        return whole_label(int(data.decode()))
    except ValueError:
        said = f"{file}: the label of {key.strip('/')} is {data[:20]!r}"
        raise HarpError(f"{said}; expected a whole number") from None


def _members(file: Path, stamp: Stamp) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                yield member
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (tarfile.TarError, OSError, ValueError) as error:
        raise HarpError(f"{file} is not a whole tar file, uncompressed: {error}") from None
    # A tar file ends with a kilobyte of zeros; one that is cut off between two members would else look whole.
    if any(read_stamped(file, stamp, max(0, stamp.size - 1024))):
        raise HarpError(f"{file} is cut off: it lacks the zeros that end a tar file")
