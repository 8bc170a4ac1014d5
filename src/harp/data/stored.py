"""Labelled pictures that stay in their files, each read when it is needed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harp.data.ahead import ahead
from harp.data.jpeg import Pixels
from harp.data.pictures import Fit, picture
from harp.data.reading import Reading
from harp.data.windows import Range
from harp.errors import HarpError

Wanted = tuple[Tensor, Tensor | None]
"""The indices of a batch (int64 [m]), and where windows are drawn the draws (float32 [4, m])."""

CHUNK = 8  # pictures that a thread is handed at once; neighbours often lie in one piece of a file


class Digest(Protocol):
    """What takes bytes, as the hashes of hashlib do."""

    def update(self, data: bytes | memoryview, /) -> None: ...


class Places(Protocol):
    """Where encoded pictures lie, by number; read by several threads at once."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def where(self, number: int) -> str:
        """The words that say where the picture is."""

    def read(self, number: int) -> bytes:
        """The encoded picture; raises `HarpError` where it is not there any more, or the file has changed."""

    def update(self, digest: Digest) -> None:
        """Feeds what tells these pictures from others without reading them: names and sizes, footers of shards."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Labelled pictures in files, read and resized when they are asked for: what does not fit in memory.

    `labels` is int64 [n], in memory; `numbers`, int64 [n], are the pictures' in `places`. Images come as uint8 of
    `shape`, (3, h, w): grey pictures are made colour, since whether all are grey only reading them would tell. Raises
    `HarpError` for a negative label.
    """

    places: Places
    numbers: Tensor
    labels: Tensor
    shape: tuple[int, int, int]
    reading: Reading

    def __post_init__(self) -> None:
        if (self.labels < 0).any():
            first = int((self.labels < 0).nonzero()[0])
            raise HarpError(
                f"{int((self.labels < 0).sum())} of {len(self)} labels are negative; the first is at index {first}"
            )

    @classmethod
    def of(cls, places: Places, labels: Sequence[int], reading: Reading) -> "Stored":
        """All pictures of `places`; where `reading` has no size they are of the first one's. That one is read."""
        size = reading.size or picture(places.where(0), places.read(0)).shape[:2]
        numbers = torch.arange(len(places), dtype=torch.int64, device="cpu")
        return cls(
            places, numbers, torch.tensor(labels, dtype=torch.int64, device="cpu"), (3, size[0], size[1]), reading
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All of them, decoded, in memory: uint8 [n, 3, h, w]."""
        return self.read(torch.arange(len(self), device="cpu"))

    def take(self, indices: Tensor) -> "Stored":
        """The pictures at `indices` (int64 [m]), in that order; none is read."""
        return replace(self, numbers=self.numbers[indices], labels=self.labels[indices])

    def relabelled(self, labels: Tensor) -> "Stored":
        """The same pictures with other labels (int64 [n])."""
        return replace(self, labels=labels)

    def update(self, digest: Digest) -> None:
        """Feeds names, sizes, labels and how pictures are resized; of the pictures themselves nothing is read."""
        self.places.update(digest)
        digest.update(f"{self.shape} {self.reading.centre if self.reading.size else None}".encode())
        for tensor in (self.numbers, self.labels):
            digest.update(tensor.contiguous().numpy().data)

    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [m]) in the threads that `reading` allows: uint8 [m, 3, h, w]."""
        (made,) = self.batches([(indices, None)], 1)
        return made

    def batches(self, wanted: Iterable[Wanted], ahead_by: int, area: Range = (1.0, 1.0)) -> Iterator[Tensor]:
        """The images of each batch in turn, uint8 [m, 3, h, w], while about `ahead_by` images after it are read.

        With draws each is a window of its picture as `windows.drawn` finds it for the range `area`. Raises `HarpError`
        for a picture that cannot be read, naming file, shard and row, and for one of another size than the first where
        none is resized.
        """
        threads = self.reading.threads
        depth = max(-(-ahead_by // CHUNK), 2 * threads)
        for piece in ahead(self._filled, self._pieces(wanted, area), threads, depth):
            if piece.last:
                yield torch.from_numpy(piece.images)

    def _pieces(self, wanted: Iterable[Wanted], area: Range) -> Iterator["_Piece"]:
        for indices, draws in wanted:
            # An array, which threads may fill whatever modes of torch's the caller is in.
            images = np.empty((len(indices), *self.shape), np.uint8)
            numbers = self.numbers[indices].tolist()
            drawn = [None] * len(numbers) if draws is None else draws.T.tolist()
            fits = [self._fit(draw, area) for draw in drawn]
            for start in range(0, max(len(numbers), 1), CHUNK):
                yield _Piece(images, start, numbers, fits)

    def _fit(self, draw: list[float] | None, area: Range) -> Fit | None:
        return self.reading.fit if draw is None else Fit(self.shape[1:], area=area, draw=draw)

    def _filled(self, piece: "_Piece") -> "_Piece":
        for place in range(piece.start, piece.end):
            number, fit = piece.numbers[place], piece.fits[place]
            where = self.places.where(number)
            found = picture(where, self.places.read(number), fit)
            if found.shape[:2] != self.shape[1:]:
                raise HarpError(
                    f"{where} is {found.shape[0]}x{found.shape[1]} pixels, the first picture {self.shape[1]}x"
                    f"{self.shape[2]}; expected one size, or data.size, to which all are resized"
                )
            piece.images[place] = found.transpose(2, 0, 1)
        return piece


@dataclass(frozen=True)
class _Piece:
    """`CHUNK` pictures of a batch, or what is left at its end: those from `start` on."""

    images: Pixels
    start: int
    numbers: list[int]
    fits: list[Fit | None]

    @property
    def end(self) -> int:
        return min(self.start + CHUNK, len(self.numbers))

    @property
    def last(self) -> bool:
        return self.end == len(self.numbers)


# Said of every result on such a set.
IN_FILES = "the images stay in their files, and the set is known by their names and sizes, not by every byte"


def stored(parts: Sequence[tuple[Places, Sequence[int]]], reading: Reading) -> tuple[Stored, Stored] | None:
    """The training and the test part, each of places and labels, as `Stored`; None where they are to be held in memory.

    Where `reading` leaves that open, it depends on how many bytes the decoded images are.
    """
    if reading.stream == "never":
        return None
    train, test = (Stored.of(places, labels, reading) for places, labels in parts)
    channels, height, width = train.shape
    if not reading.streams((len(train) + len(test)) * channels * height * width):
        return None
    return train, test
