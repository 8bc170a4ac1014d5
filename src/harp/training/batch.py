"""What `fit` refuses of a batch, in a sentence, before PyTorch does in an error of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.models import classes_of
from harp.modes import evaluating


class BatchCheck:
    """Raises `HarpError` for pixels that are not finite and for labels that are no class of `model`.

    How many classes there are is asked once, of the first batch, in eval mode, and leaves no trace in random numbers.
    """

    def __init__(self, model: nn.Module, stage: str):
        self.model, self.stage = model, stage
        self.classes: int | None = None

    def __call__(self, x: Tensor, y: Tensor, step: int) -> None:
        if not torch.isfinite(x).all():
            raise HarpError(f"{self.stage}: the batch of step {step + 1} holds NaN or infinite pixels")
        if self.classes is None:
            self.classes = self._ask(x)
        low, high = (int(value) for value in y.aminmax())
        if low < 0 or high >= self.classes:
            label = low if low < 0 else high
            raise HarpError(
                f"{self.stage}: the batch of step {step + 1} holds the label {label}; the network has classes 0 to "
                f"{self.classes - 1}"
            )

    def _ask(self, x: Tensor) -> int:
        devices = [x.device] if x.device.type == "cuda" else []
        with evaluating(self.model), torch.no_grad(), torch.random.fork_rng(devices):
            return classes_of(self.model(x), len(x))


@contextmanager
def enough_for_norms(x: Tensor, stage: str, step: int) -> Iterator[None]:
    """Raises `HarpError` for a batch that has one value a channel for a batch norm, which cannot train on it."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise HarpError(
            f"{stage}: the batch of step {step + 1} holds {len(x)} image, too few for batch norm to train on; "
            "leave the last batch out (drop_last=True in a DataLoader) or choose another batch size"
        ) from error
