"""A data set on the device: batches are gathered and augmented there, in an order that resumes exactly."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harp.data.augment import Draws, magnified
from harp.data.base import Labelled
from harp.data.batches import Batch, unit
from harp.data.epochs import Chosen, Epochs
from harp.data.windows import drawn
from harp.randomness import generator


class Resident(Epochs):
    """The `Batches` of a set held on `device` in its own dtype: CIFAR-10 takes 150 MB there, and no worker.

    Epoch e is ordered by the draw `(seed, "order", e)`. For the rest see `Epochs`.
    """

    def _hold(self, images: Labelled) -> None:
        self.images = images.images.to(self.labels.device)

    def _in_order(self, size: int) -> Iterator[Batch]:
        parts = (slice(start, start + size) for start in range(0, len(self), size))
        # Cloned, so that a batch changed in place leaves the set as it is.
        return ((unit(self.images[part].clone()), self.labels[part].clone()) for part in parts)

    def _order(self, epoch: int) -> Callable[[Tensor], Tensor]:
        draws = generator(self.seed, "order", epoch)
        return torch.randperm(len(self), generator=draws, device="cpu").__getitem__

    def _served(self, batches: Iterator[Chosen]) -> Iterator[Batch]:
        for chosen, draws in batches:
            places = chosen.to(self.labels.device)
            yield self._varied(self._cut(self.images[places], draws), draws), self.labels[places]

    def _cut(self, images: Tensor, draws: Draws) -> Tensor:
        area = self.varied.get("crop")
        if draws.windows is None or area is None:
            return images
        size = (images.shape[2], images.shape[3])
        return magnified(unit(images), [drawn(*size, size, area, draw) for draw in draws.windows.T.tolist()])
