"""A data set that stays in its files: pictures are decoded in threads, a little ahead of those who train on them."""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harp.data.batches import Batch, unit
from harp.data.epochs import Chosen, Epochs
from harp.data.order import Permutation
from harp.data.stored import Stored, Wanted

AHEAD = 2  # batches read before they are asked for: what is in memory of the set


class Streamed(Epochs):
    """The `Batches` of pictures in files, of which a few batches at a time are in memory.

    Epoch e is the `Permutation` named `(seed, "order", e)`: the position in it is the step, so nothing but that has to
    be known to go on in the middle of an epoch. Windows (`crop`) are cut out of the pictures as they are decoded; what
    else is varied, is on the device. For the rest see `Epochs`.
    """

    def _hold(self, images: Stored) -> None:
        self.stored = images

    def _in_order(self, size: int) -> Iterator[Batch]:
        parts = [torch.arange(start, min(start + size, len(self)), device="cpu") for start in range(0, len(self), size)]
        made = self.stored.batches(((part, None) for part in parts), AHEAD * size)
        for part, images in zip(parts, made, strict=True):
            yield unit(images.to(self.labels.device)), self.labels[part.to(self.labels.device)]

    def _order(self, epoch: int) -> Callable[[Tensor], Tensor]:
        return Permutation(len(self), self.seed, ("order", epoch))

    def _served(self, batches: Iterator[Chosen]) -> Iterator[Batch]:
        begun: deque[Chosen] = deque()

        def wanted() -> Iterator[Wanted]:
            for chosen, draws in batches:
                begun.append((chosen, draws))
                yield chosen, draws.windows

        size = self.batch_size // self.part[1]
        for images in self.stored.batches(wanted(), AHEAD * size, self.varied.get("crop") or (1.0, 1.0)):
            chosen, draws = begun.popleft()
            places = chosen.to(self.labels.device)
            yield self._varied(images.to(places.device), draws), self.labels[places]
