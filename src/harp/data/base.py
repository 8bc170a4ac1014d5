"""Labelled images, a data set of two such parts, and the register of data sets by name."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from harp.data.stored import Digest
from harp.errors import HarpError
from harp.registry import Registry


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, checked when made.

    `images` is [n, c, h, w], uint8 (0..255) or float32 in [0, 1]; `labels` is int64 [n], each at least 0.
    Raises `HarpError` for another shape or dtype, no image at all, a value that is not finite or lies outside
    the box, and a negative label; the last three tell how many images and the first one's index.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_form(self.images, self.labels)
        if self.images.dtype == torch.float32:
            flat = self.images.flatten(1)
            refuse((~flat.isfinite()).any(1), "images hold NaN or infinity")
            refuse(((flat < 0) | (flat > 1)).any(1), "float images hold values outside [0, 1]")
        refuse(self.labels < 0, "labels are negative")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: channels, height, width."""
        return self.images.shape[1], self.images.shape[2], self.images.shape[3]

    def take(self, indices: Tensor) -> "Images":
        """The images at `indices` (int64 [m]), in that order, copied; raises `IndexError` beyond the end."""
        return Images(self.images[indices], self.labels[indices])

    def relabelled(self, labels: Tensor) -> "Images":
        """The same images with other labels (int64 [n])."""
        return Images(self.images, labels)

    def update(self, digest: Digest) -> None:
        """Feeds the shapes, dtypes and bytes of images and labels."""
        for tensor in (self.images, self.labels):
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)


class Labelled(Protocol):
    """Labelled images of one shape: `Images` in memory, or `Stored` in their files."""

    @property
    def labels(self) -> Tensor:
        """int64 [n], in memory."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: channels, height, width."""

    @property
    def images(self) -> Tensor:
        """All of them, in memory: [n, c, h, w], uint8 or float32 in [0, 1]."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: Tensor) -> Self:
        """Those at `indices` (int64 [m]), in that order."""

    def relabelled(self, labels: Tensor) -> Self:
        """The same images with other labels (int64 [n])."""

    def update(self, digest: Digest) -> None:
        """Feeds what tells the images from others."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test part of one image shape, the class names, and how training images may be varied.

    `flip` says that a mirrored image keeps its label; `pad` is how many zero pixels pad-and-crop adds on each side by
    default. `notes` say what a reader of results should know of how the parts were chosen. `numbers` are the labels
    that the files hold for each class, None where files or set name the classes. Raises `HarpError` where the parts'
    image shapes differ, a label has no class name, or a class name is no UTF-8, which no result could hold.
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    flip: bool
    pad: int
    notes: tuple[str, ...] = ()
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        shapes = [part.shape for part in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise HarpError(
                f"{self.name}: training images are {shapes[0]}, test images {shapes[1]}; expected one shape"
            )
        if self.pad < 0:
            raise HarpError(f"{self.name}: pad is {self.pad}; expected at least 0 pixels")
        for name in self.classes:
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise HarpError(f"{self.name}: the class name {name!r} is no UTF-8; rename it")
        for part, data in (("training", self.train), ("test", self.test)):
            with located(f"{self.name}, {part} part"):
                refuse(data.labels >= len(self.classes), f"labels are not below the {len(self.classes)} classes")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of the shapes, dtypes and bytes of both parts' images and labels.

        Of images that stay in their files it is of names, sizes and labels instead, of Parquet shards with their
        footers, of tar shards with their tables: a picture that is changed and keeps its size is not noticed.
        """
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            part.update(digest)
        return digest.hexdigest()

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.train.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.shape[1:]


DATA: Registry[Callable[..., Dataset]] = Registry("data set", "data")


def unknown(
    name: str, train: Labelled, test: Labelled, classes: tuple[str, ...] | None, notes: tuple[str, ...] = ()
) -> Dataset:
    """A data set of which only the files are known: never mirrored, padded by an eighth of its shorter side.

    Mirroring turns many digits and letters into others, so it waits for somebody to ask for it. An eighth is
    the customary 4 pixels at 32x32. Where the classes have no names (None) they are the labels that there are, in
    order, numbered anew; `load` asks whether that is what was meant.
    """
    pad = min(train.shape[1:]) // 8
    if classes is not None:
        return Dataset(name, train, test, classes, flip=False, pad=pad, notes=notes)
    found, places = torch.unique(torch.cat([train.labels, test.labels]), return_inverse=True)
    numbers = tuple(int(label) for label in found)
    trained = train.relabelled(places[: len(train)].clone())
    tested = test.relabelled(places[len(train) :].clone())
    names = tuple(str(number) for number in numbers)
    return Dataset(name, trained, tested, names, flip=False, pad=pad, notes=notes, numbers=numbers)


def usual_place(name: str) -> Path:
    """The folder `name` in the one that the environment variable HARP_DATA names, or else in `../shared/data`."""
    return Path(os.environ.get("HARP_DATA") or "../shared/data") / name


def required(path: Path | None, name: str, what: str) -> Path:
    """`path`, which exists; raises `HarpError` with `what` it should be where it is None or not there."""
    if path is None:
        raise HarpError(f"data set {name!r} has no default place; set data.path to {what}")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise HarpError(f"data set {name!r}: {path} is a device or a pipe; expected {what}")
    if not path.exists():
        raise HarpError(f"data set {name!r}: {path} does not exist; expected {what}")
    return path


def whole_label(label: int) -> int:
    """`label`, which 64 bits hold; raises `ValueError` for another."""
    if not -(1 << 63) <= label < 1 << 63:
        raise ValueError(f"{label} does not fit into 64 bits")
    return label


def refuse(bad: Tensor, what: str) -> None:
    """Nothing where `bad` (bool [n]) is all False, else `HarpError` with how many are True and the first."""
    if bad.any():
        raise HarpError(f"{int(bad.sum())} of {len(bad)} {what}; the first is at index {int(bad.nonzero()[0])}")


@contextmanager
def located(where: str) -> Iterator[None]:
    """A block whose `HarpError`s begin with `where`."""
    try:
        yield
    except HarpError as error:
        raise HarpError(f"{where}: {error}") from None


def _check_form(images: Tensor, labels: Tensor) -> None:
    if images.dtype not in (torch.uint8, torch.float32):
        raise HarpError(f"images are {images.dtype}; expected uint8, or float32 in [0, 1]")
    if images.ndim != 4:
        raise HarpError(f"images have shape {tuple(images.shape)}; expected [n, c, h, w]")
    if labels.dtype != torch.int64:
        raise HarpError(f"labels are {labels.dtype}; expected int64")
    if labels.shape != images.shape[:1]:
        raise HarpError(f"labels have shape {tuple(labels.shape)}; expected [{len(images)}], one per image")
    if images.numel() == 0:
        raise HarpError(f"there are no images: the shape is {tuple(images.shape)}; expected at least one pixel")
