"""What stands between images in [0, 1] and plain logits: a wrapped output opened, normalisation inside the network."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harp.errors import HarpError, choices


def logits_of(output: object, entry: str | None = None) -> Tensor:
    """The logits in what a network returned: the tensor itself, or what a tuple, mapping or object holds at `entry`.

    `entry` is a key, an attribute or a place ("0", "1", ...). Without one it is what is called "logits", else the only
    float tensor [n, two or more] there is; one with further axes only where there is none without. Raises `HarpError`
    where there is none, where there are several, because features look like logits, and where `entry` names no tensor.
    """
    if isinstance(output, Tensor):
        return output
    entries = _entries(output)
    if entry is not None:
        if entry not in entries:
            raise HarpError(f"the network's {type(output).__name__} has no {entry!r}; {choices(entry, entries)}")
        return entries[entry]
    return entries["logits"] if "logits" in entries else entries[_only(output, entries)]


def _entries(output: object) -> dict[str, Tensor]:
    """The tensors in a wrapper, by its names, or by place in a plain sequence."""
    if isinstance(output, Mapping):
        found = dict(output)
    elif hasattr(output, "_asdict"):
        found = output._asdict()
    elif isinstance(output, tuple | list):
        found = dict(enumerate(output))
    else:
        found = {**getattr(output, "__dict__", {}), "logits": getattr(output, "logits", None)}
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _only(output: object, entries: Mapping[str, Tensor]) -> str:
    kind = type(output).__name__
    floats = {name: x for name, x in entries.items() if x.is_floating_point() and x.ndim > 1 and x.shape[1] > 1}
    able = [name for name, x in floats.items() if x.ndim == 2] or list(floats)
    if not able:
        raise HarpError(
            f"the network returns an object of type {kind} without logits; expected a float tensor [n, classes], "
            "alone, called logits, or the only one of that form in what is returned"
        )
    if len(able) > 1:
        shapes = ", ".join(f"{name} {list(entries[name].shape)}" for name in able)
        raise HarpError(
            f"the network returns an object of type {kind} in which {len(able)} tensors could be the logits "
            f"({shapes}); name the right one: model.output in a recipe, or harp.Logits(model, output={able[0]!r})"
        )
    return able[0]


@contextmanager
def opened(model: nn.Module) -> Iterator[None]:
    """Within it a call of `model` gives plain logits (`logits_of`), in train mode, too, where auxiliary heads answer.

    Nothing is wrapped: names, parameters and the network's own `forward` stay what they are.
    """
    handle = model.register_forward_hook(lambda module, images, output: logits_of(output))
    try:
        yield
    finally:
        handle.remove()


class Logits(nn.Module):
    """The logits of `model` as one tensor, whatever it wraps them in: at `output`, or found as `logits_of` does.

    The wrapped network is `.model`, and every name in the state begins with `model.`; without that prefix the names
    are those of the network itself, so an exported file goes back into it by stripping six letters (and, under
    `Normalised`, the two buffers `mean` and `std`). Adapters do not nest: there is one prefix, not two. Where a
    network has several heads its own `.logits` counts (in LeViT their mean).
    """

    def __init__(self, model: nn.Module, output: str | None = None):
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images), self.output)


class Normalised(Logits):
    """`model((images - mean) / std)`: takes images [B, c, H, W] in [0, 1] to the logits of `model`.

    `mean` and `std` hold one value per channel and become float32 buffers [c, 1, 1], saved with the state. For
    everyone else images stay in [0, 1] and eps in units of pixels. A wrapped output is opened as in `Logits`; a
    `Logits` given as `model` is replaced by what it wraps, its `output` kept. Raises `HarpError` where the lengths
    differ or are zero, where a value is not finite, and where a `std` is not above zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], output: str | None = None):
        if len(mean) != len(std) or len(mean) == 0:
            raise HarpError(f"mean has {len(mean)} values and std {len(std)}; expected one of each per channel")
        if not all(map(math.isfinite, mean)):
            raise HarpError(f"mean {list(mean)}: expected finite values")
        if not all(0 < value < math.inf for value in std):
            raise HarpError(f"std {list(std)}: expected every value above 0 and finite; 1.0 leaves a channel as it is")
        inner = model if type(model) is Logits else Logits(model)
        super().__init__(inner.model, inner.output if output is None else output)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images - self.mean) / self.std)


class Function(nn.Module):
    """Any callable from images to logits as a network, without parameters of its own; wrapped outputs are opened."""

    def __init__(self, function: Callable[[Tensor], object]):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.function(images))
