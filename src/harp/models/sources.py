"""A network from its name: a registered one, or a factory in a user's own file."""

from collections.abc import Sequence

from torch import nn

from harp.errors import HarpError, choices
from harp.models.adapt import Normalised
from harp.models.base import MODELS
from harp.models.check import check_logits
from harp.models.own import build_own

OWN = "path/to/file.py:factory"


def _named(name: str, *, classes: int, channels: int, size: int, width: float) -> nn.Module:
    if name in MODELS:
        return MODELS[name](classes=classes, channels=channels, size=size, width=width)
    if name.rpartition(":")[0].endswith(".py"):
        return build_own(name, classes=classes, channels=channels, size=size, width=width)
    if name.endswith(".py"):
        raise HarpError(f"model {name!r} names a file but no function in it; expected {OWN}")
    raise HarpError(f"no model {name!r}; {choices(name, MODELS)}; or a file of yours as {OWN}")


def _normalised(
    model: nn.Module, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> nn.Module:
    if mean is None and std is None:
        return model
    if mean is None or std is None:
        raise HarpError(f"{'std' if mean is None else 'mean'} is given alone; expected mean and std together")
    if len(mean) != channels:
        raise HarpError(f"mean has {len(mean)} values for images of {channels} channels; expected one per channel")
    return Normalised(model, mean, std)


def build(
    name: str,
    *,
    classes: int,
    channels: int,
    size: int,
    width: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """A network in training mode: images [B, channels, size, size] in [0, 1] to float logits [B, classes].

    `name` is registered in `MODELS` or has the form `path/to/file.py:factory`; `mean` and `std`, one value
    per channel, wrap it in `Normalised`. Initial weights come from PyTorch's global generator, which this
    function does not seed: seed it (`torch.manual_seed`) before the call for the same weights. Raises
    `HarpError` for an unknown name, a number below 1, a width not above 0, a fault in a user's file, and a
    network that `check_logits` refuses.
    """
    for what, value in (("classes", classes), ("channels", channels), ("size", size)):
        if value < 1:
            raise HarpError(f"{what} {value}: expected a whole number of at least 1")
    model = _named(name, classes=classes, channels=channels, size=size, width=width)
    model = _normalised(model, channels, mean, std)
    check_logits(model, classes, channels, size)
    return model
