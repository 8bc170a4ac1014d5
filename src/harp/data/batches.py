"""What a training loop asks of its data, and an adapter that gives it to anybody's loader."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from harp.errors import HarpError

Batch = tuple[Tensor, Tensor]
LARGE, ALIGNED = 1 << 20, 16  # how many floats numpy asks large pages for, and at how many torch's tensors begin


class Batches(Protocol):
    """Batches (x, y): x float32 [n, c, h, w] in [0, 1], y int64 [n], both on the training device."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches make one pass over the training set."""

    def after(self, step: int) -> Iterator[Batch]:
        """Endless training batches: what follows once `step` of them have been used."""

    def once(self) -> Iterator[Batch]:
        """Every example once."""


class Counted(Protocol):
    """Examples to measure on: `len` of them, always the same in the same order, in batches of `batch_size`.

    The last batch may be smaller.
    """

    batch_size: int

    def __len__(self) -> int: ...

    def once(self) -> Iterator[Batch]:
        """Every example once."""


class Loader:
    """The `Batches` of an iterable of (x, y), such as a `torch.utils.data.DataLoader`, moved to `device`.

    The loader is iterated anew for every epoch and needs a length. Its x is float32 in [0, 1] or uint8, its y
    integer [n]; each batch is checked, and `HarpError` raised for NaN or values outside the box, as from a
    loader that normalises (let the model do that).

    Resuming within an epoch skips batches of one fresh iteration, so it is only as exact as the loader's own
    order: exact where that is fixed, another shuffle where the loader draws it from a generator of its own.
    """

    def __init__(self, loader: Iterable[Batch], device: torch.device | str):
        self.loader = loader
        self.device = torch.device(device)
        self.steps_per_epoch = _length(loader)

    def after(self, step: int) -> Iterator[Batch]:
        """Endless batches; those of the current epoch that come before `step` are drawn and dropped."""
        skip = step % self.steps_per_epoch
        while True:
            seen = skip
            for batch in islice(self.loader, skip, self.steps_per_epoch):
                seen += 1
                yield self._moved(batch)
            if seen < self.steps_per_epoch:
                raise HarpError(f"the loader ended before batch {seen + 1} of the {self.steps_per_epoch} it promised")
            skip = 0

    def once(self) -> Iterator[Batch]:
        """Every batch of one iteration, in the loader's own order and with its own augmentation."""
        return map(self._moved, self.loader)

    def _moved(self, batch: Batch) -> Batch:
        x, y = batch
        check_batch(x, y)
        return unit(x.to(self.device)), y.to(self.device, torch.int64)


def batches_of(data: Batches | Iterable[Batch], device: torch.device) -> Batches:
    """`data` itself where it is `Batches`, else a `Loader` of it; `HarpError` for what cannot be iterated anew."""
    if hasattr(data, "after"):
        return cast(Batches, data)
    if not isinstance(data, Iterable) or isinstance(data, Tensor):
        raise HarpError(f"the training data is a {type(data).__name__}; expected batches (x, y), as from a DataLoader")
    return Loader(data, device)


def unit(images: Tensor) -> Tensor:
    """The images as float32 in [0, 1]: uint8 divided by 255, float32 itself."""
    if images.dtype != torch.uint8:
        return images
    # A tensor, not a number: CUDA multiplies by a number's reciprocal, a rounding away from what a CPU does.
    # In place: memory for another batch costs as much as the division.
    return _floats(images).div_(torch.full((), 255.0, dtype=torch.float32, device=images.device))


def _floats(images: Tensor) -> Tensor:
    """The images as float32, uint8 from 0 to 255 as they are."""
    if images.device.type != "cpu" or images.numel() < LARGE or not images.is_contiguous():
        return images.to(torch.float32)
    # numpy's large arrays lie on large pages: new ones cost a quarter of what torch's do, most of the time of all this.
    room = np.empty(images.numel() + ALIGNED, np.float32)
    first = -(room.ctypes.data // 4) % ALIGNED
    return torch.from_numpy(room[first : first + images.numel()]).view(images.shape).copy_(images)


def check_batch(x: Tensor, y: Tensor) -> None:
    """Nothing for a batch as `Loader` describes it; raises `HarpError` for any other."""
    if x.dtype not in (torch.float32, torch.uint8):
        raise HarpError(f"the loader's images are {x.dtype}; expected float32 in [0, 1] or uint8")
    if y.ndim != 1 or len(y) != len(x) or y.is_floating_point():
        raise HarpError(f"the loader's labels are {y.dtype} {tuple(y.shape)}; expected integers [{len(x)}]")
    if x.dtype == torch.float32 and x.numel():
        low, high = (float(value) for value in x.aminmax())
        if not (low >= 0 and high <= 1):
            raise HarpError(
                f"the loader's images span [{low:.3g}, {high:.3g}]; expected [0, 1]: let the model normalise"
            )


def _length(loader: Iterable[Batch]) -> int:
    try:
        length = len(loader)  # type: ignore[arg-type]
    except TypeError:
        raise HarpError(
            f"a {type(loader).__name__} has no length; expected a loader that can be iterated anew"
        ) from None
    if length < 1:
        raise HarpError(f"the {type(loader).__name__} holds no batch; expected at least one")
    return length
