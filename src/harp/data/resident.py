"""A data set on the device: batches are gathered and augmented there, in an order that resumes exactly."""

from collections.abc import Iterator

import torch
from torch import Tensor

from harp.data.augment import crop, mirror
from harp.data.base import Images
from harp.data.batches import Batch, unit
from harp.errors import HarpError
from harp.randomness import generator


def check_batches(images: Images, batch_size: int, pad: int, parts: int = 1) -> None:
    """Raises `HarpError` where no such batches of `images` can be drawn, in so many equal parts."""
    if not 1 <= batch_size <= len(images):
        raise HarpError(f"batch size {batch_size} for {len(images)} images; expected 1 to {len(images)}")
    if batch_size % parts:
        raise HarpError(f"batch size {batch_size} for {parts} processes; expected a multiple of {parts}")
    side = min(images.images.shape[2:])
    # With a whole side of zeros around it an image could be cropped to nothing but zeros.
    if pad and not 0 <= pad < side:
        raise HarpError(f"pad is {pad} for images of {side} pixels; expected 0 to {side - 1}")


class Resident:
    """The `Batches` of a set held on `device` in its own dtype: CIFAR-10 takes 150 MB there, and no worker.

    Epoch e is ordered by the draw `(seed, "order", e)` and the batch of step s augmented by `(seed,
    "augment", s)`, both made on the CPU: `after(k)` yields, bit for bit, what `after(0)` yields from its
    batch k on, on every device. `flip` mirrors half of the images; `pad` is how many zero pixels pad-and-crop
    adds on each side. With `shuffle` the rest of an epoch that fills no batch is left out (other images each
    time); without it, it is a smaller last batch. With `part` (k, m) the training batches are the k-th of m equal parts
    of those of (0, 1), bit for bit; `once` has all. Raises `HarpError` where `batch_size` is not from 1 to the
    number of images, or `pad` from 0 to less than a side of the images.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        *,
        device: torch.device | str,
        flip: bool = False,
        pad: int = 0,
        shuffle: bool = True,
        part: tuple[int, int] = (0, 1),
    ):
        check_batches(images, batch_size, pad, part[1])
        self.part = part
        self.images = images.images.to(device)
        self.labels = images.labels.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.pad = pad
        self.shuffle = shuffle

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
        return self._endless(step)

    def once(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Every image once, in the set's own order, not augmented; the last batch may be smaller.

        Batches hold `batch_size` images, by default as many as in training. Raises `HarpError` where that is
        below 1.
        """
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise HarpError(f"batch size is {size}; expected at least 1")
        parts = (slice(start, start + size) for start in range(0, len(self), size))
        # Cloned, so that a batch changed in place leaves the set as it is.
        return ((unit(self.images[part].clone()), self.labels[part].clone()) for part in parts)

    def _endless(self, step: int) -> Iterator[Batch]:
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            order = self._order(epoch)
            for position in range(first, self.steps_per_epoch):
                chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
                x, y = self._augmented(self.images[chosen], step), self.labels[chosen]
                # The draws are those of the whole batch; what is not this process's goes once it is augmented.
                size = len(y) // self.part[1]
                own = slice(self.part[0] * size, (self.part[0] + 1) * size)
                yield (x, y) if self.part[1] == 1 else (x[own].contiguous(), y[own])
                step += 1

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self), device=self.labels.device)
        draws = generator(self.seed, "order", epoch)
        return torch.randperm(len(self), generator=draws, device="cpu").to(self.labels.device)

    def _augmented(self, images: Tensor, step: int) -> Tensor:
        noise = generator(self.seed, "augment", step)
        # Before the division by 255: moving bytes costs a quarter of moving floats.
        if self.pad:
            images = crop(images, self.pad, noise)
        if self.flip:
            images = mirror(images, noise)
        return unit(images)
