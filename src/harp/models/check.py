"""One forward pass that tells, before any training, whether a network fits its data set."""

from itertools import chain

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.models.adapt import Logits
from harp.models.base import Size, sides
from harp.modes import evaluating


def placed(model: nn.Module) -> torch.device:
    """Where the first of the network's parameters and buffers is; the CPU where it has none."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _answer(model: nn.Module, channels: int, size: Size) -> object:
    high, wide = sides(size)
    images = torch.zeros(2, channels, high, wide, device=placed(model))
    try:
        with evaluating(model), torch.no_grad():
            return model(images)
    except HarpError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise HarpError(f"the network fails on images of {channels} x {high} x {wide} ({reason})") from error


def adapted(model: nn.Module, channels: int, size: Size, output: str | None = None) -> nn.Module:
    """`model` itself where it returns a tensor in evaluation mode and no `output` is named, else `Logits` of it.

    Raises `HarpError` where its forward pass fails on images of `channels` channels and `size`.
    """
    plain = output is None and isinstance(_answer(model, channels, size), Tensor)
    return model if plain else Logits(model, output)


def check_logits(model: nn.Module, classes: int, channels: int, size: Size) -> None:
    """Nothing, where two black images of that shape in float32 give float logits [2, classes].

    Raises `HarpError` where the forward pass fails (another number of channels, another image size) or where
    what comes out is no such tensor. Runs in evaluation mode without gradients on the network's own device;
    the modes of all its modules are put back.
    """
    logits = _answer(model, channels, size)
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        raise HarpError(f"the network returns an object of type {kind}; expected a tensor of logits [2, {classes}]")
    if not logits.is_floating_point():
        raise HarpError(f"the network returns {logits.dtype}; expected floating-point logits [2, {classes}]")
    if logits.dim() != 2 or len(logits) != 2:
        shape = list(logits.shape)
        raise HarpError(f"the network returns shape {shape} for 2 images; expected logits [2, {classes}]")
    if logits.shape[1] != classes:
        raise HarpError(f"a network of {logits.shape[1]} logits for a data set of {classes} classes")


def classes_of(logits: object, n: int) -> int:
    """The number of classes of `logits`; raises `HarpError` where they are not a float tensor [n, two or more]."""
    if not isinstance(logits, Tensor):
        raise HarpError(
            f"the network answers with {type(logits).__name__}; expected a tensor of logits [n, classes], which "
            "harp.Logits picks"
        )
    if not logits.is_floating_point() or logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        form = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}"
        raise HarpError(f"the network's answers are {form}; expected float logits [{n}, 2 or more classes]")
    return logits.shape[1]
