"""What batches of a set have in common, wherever its images lie: epochs, order, draws, and parts of batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Unpack

import torch
from torch import Tensor

from harp.data.augment import Draws, Varied, check_varied, jittered, mirrored, shifted
from harp.data.base import Labelled
from harp.data.batches import Batch, unit
from harp.errors import HarpError
from harp.randomness import generator

Part = tuple[int, int]
"""Which of how many equal parts of every batch: (0, 2) is the first half."""

WHOLE: Part = (0, 1)
Chosen = tuple[Tensor, Draws]
"""The indices of a batch's images (int64 [n], on the CPU) and what was drawn for them."""


def check_batches(images: Labelled, batch_size: int, **varied: Unpack[Varied]) -> None:
    """Raises `HarpError` where no such batches of `images` can be drawn."""
    if not 1 <= batch_size <= len(images):
        raise HarpError(f"batch size {batch_size} for {len(images)} images; expected 1 to {len(images)}")
    check_varied(varied, images.shape[1:])


class Epochs(ABC):
    """Batches on `device` in an order that resumes exactly: `after(k)` yields, bit for bit, what `after(0)` yields from
    its batch k on, on every device.

    Epochs are ordered by `seed`, and the batch of step s is augmented by the draw `(seed, "augment", s)` as `varied`
    says, all on the CPU. With `shuffle` the rest of an epoch that fills no batch is left out (other images each time);
    without it, it is a smaller last batch. Of every training batch there comes `part`, (i, k) for the i-th of k
    contiguous ones: joined, they are the batch, bit for bit, for order and draws are those of the whole. Raises
    `HarpError` where `batch_size`, which is the whole batch's, is not from 1 to the number of images or no multiple of
    k, and for variations that `check_varied` refuses.
    """

    def __init__(
        self,
        images: Labelled,
        batch_size: int,
        seed: int,
        *,
        device: torch.device | str,
        shuffle: bool = True,
        part: Part = WHOLE,
        **varied: Unpack[Varied],
    ):
        check_batches(images, batch_size, **varied)
        index, parts = part
        if not 0 <= index < parts:
            raise HarpError(f"part {index} of {parts}; expected one from 0 to {parts - 1}")
        if batch_size % parts:
            raise HarpError(f"batch size {batch_size} in {parts} equal parts; expected a multiple of {parts}")
        self.labels = images.labels.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.part = part
        self.varied = varied
        self._hold(images)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches make one epoch: the full ones, and without `shuffle` the smaller last one too."""
        full, rest = divmod(len(self), self.batch_size)
        return full if self.shuffle or rest == 0 else full + 1

    def after(self, step: int) -> Iterator[Batch]:
        """Endless augmented batches, starting with that of step `step` (0 is the first of all)."""
        if step < 0:
            raise HarpError(f"step is {step}; expected at least 0")
        return self._served(self._chosen(step))

    def once(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Every image once, in the set's own order, not augmented, whatever the part; the last batch may be smaller.

        Batches hold `batch_size` images, by default as many as in training. Raises `HarpError` where that is
        below 1.
        """
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise HarpError(f"batch size is {size}; expected at least 1")
        return self._in_order(size)

    @abstractmethod
    def _hold(self, images: Any) -> None:
        """Takes the images in, once all else is known to be right."""

    @abstractmethod
    def _in_order(self, size: int) -> Iterator[Batch]:
        """Batches of `size` images in the set's own order."""

    @abstractmethod
    def _order(self, epoch: int) -> Callable[[Tensor], Tensor]:
        """The epoch's random order: from places in it to images, both int64 [n] on the CPU."""

    @abstractmethod
    def _served(self, batches: Iterator[Chosen]) -> Iterator[Batch]:
        """The images and labels that were chosen, varied by the draws."""

    def _chosen(self, step: int) -> Iterator[Chosen]:
        order, ordered = None, -1
        for now in count(step):
            epoch, position = divmod(now, self.steps_per_epoch)
            if epoch != ordered:
                order, ordered = self._order(epoch) if self.shuffle else None, epoch
            first = position * self.batch_size
            n = min(self.batch_size, len(self) - first)
            draws = Draws.of(self.varied, n, generator(self.seed, "augment", now))
            mine = slice(n * self.part[0] // self.part[1], n * (self.part[0] + 1) // self.part[1])
            places = torch.arange(first + mine.start, first + mine.stop, device="cpu")
            yield order(places) if order is not None else places, draws.part(mine)

    def _varied(self, images: Tensor, draws: Draws) -> Tensor:
        # Before the division by 255: moving bytes costs a quarter of moving floats.
        if draws.shifts is not None:
            images = shifted(images, self.varied.get("pad", 0), draws.shifts)
        if draws.mirrored is not None:
            images = mirrored(images, draws.mirrored)
        images = unit(images)
        return images if draws.factors is None else jittered(images, draws.factors)
