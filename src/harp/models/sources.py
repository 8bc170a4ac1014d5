"""A network from its name: a registered one, one of another library's, or a factory in a user's own file."""

from collections.abc import Sequence

from torch import nn

from harp.ambient import pinned
from harp.errors import HarpError, choices
from harp.models.adapt import Normalised
from harp.models.base import MODELS, Size, sides, size_of
from harp.models.check import adapted, check_logits
from harp.models.hub import build_hf
from harp.models.libraries import build_timm, build_torchvision
from harp.models.own import build_named

Normalisation = tuple[Sequence[float], Sequence[float]]
OWN = "path/to/file.py:factory"
LIBRARIES = {"timm": build_timm, "torchvision": build_torchvision, "hf": build_hf}


def _named(name: str, *, classes: int, channels: int, size: Size, width: float) -> nn.Module:
    if name in MODELS:
        return build_named(name, classes=classes, channels=channels, size=size, width=width)
    if name.endswith(".py"):
        raise HarpError(f"model {name!r} names a file but no function in it; expected {OWN}")
    library = name.partition(":")[0]
    if library in LIBRARIES and library != name:
        if width != 1:
            raise HarpError(f"model {name!r} takes no width, so width {width} would change nothing; expected 1.0")
        return LIBRARIES[library](name, classes=classes, channels=channels, size=size)
    others = ", ".join(f"{library}:NAME" for library in LIBRARIES)
    raise HarpError(f"no model {name!r}; {choices(name, MODELS)}; or {others}; or a file of yours as {OWN}")


def _normalised(
    model: nn.Module, channels: int, size: Size, normalise: Normalisation | None, output: str | None
) -> nn.Module:
    if normalise is None:
        return adapted(model, channels, size, output)
    mean, std = normalise
    if len(mean) != channels:
        raise HarpError(f"mean has {len(mean)} values for images of {channels} channels; expected one per channel")
    return Normalised(model, mean, std, output)


@pinned()
def build(
    name: str,
    *,
    classes: int,
    channels: int,
    size: Size,
    width: float = 1.0,
    normalise: Normalisation | None = None,
    output: str | None = None,
) -> nn.Module:
    """A network in training mode: images [B, channels, size, size] in [0, 1] to float logits [B, classes].

    Two numbers as `size` are height and width; a factory is given one where they are equal. `name` is registered in
    `MODELS`, or has one of the forms `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`, `hf:OWNER/NAME` and
    `path/to/file.py:factory`; only factories that accept one take a `width`, as all of harp's own do. `normalise`,
    a mean and a deviation per channel, wraps it in `Normalised`; without it a network that returns something else
    than a tensor is wrapped in `Logits`, `output` naming the logits' place in it. Initial weights come from
    PyTorch's global generator, which this function does not seed: seed it (`torch.manual_seed`) before the call for
    the same weights. Raises `HarpError` for an unknown name, a library that is not installed, a number below 1, a
    width not above 0 or one that the network does not take, a fault in a user's file, and a network that
    `check_logits` refuses.
    """
    for what, value in (("classes", classes), ("channels", channels), ("size", min(sides(size)))):
        if value < 1:
            raise HarpError(f"{what} {value}: expected a whole number of at least 1")
    size = size_of(*sides(size))
    model = _named(name, classes=classes, channels=channels, size=size, width=width)
    model = _normalised(model, channels, size, normalise, output)
    check_logits(model, classes, channels, size)
    return model
