"""Batch norms' running statistics taken anew, from images that the network as it is now answers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harp.models import opened
from harp.modes import evaluating


@torch.no_grad()
def renew(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running means and variances become the averages over `batches`, images [n, ...], each batch counting alike.

    `batches` may attack `model` when it is asked for the next: to its end that has its old statistics. All but the
    batch norms answers in eval mode. Without a batch nothing changes (Izmailov et al., UAI 2018, section 3.2).
    """
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.running_mean is not None]
    fresh: list[dict[str, Tensor | None]] = [{name: _blank(own) for name, own in n._buffers.items()} for n in norms]
    seen = False
    with evaluating(model):
        for images in batches if norms else ():
            with _gathering(norms, fresh), opened(model):
                model(images)
            seen = True
    for norm, buffers in zip(norms, fresh if seen else (), strict=False):
        for name, value in buffers.items():
            own = norm._buffers[name]
            if own is not None and value is not None:
                own.copy_(value)


@contextmanager
def renewed(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Within it the model is as `renew` leaves it; afterwards as before, in every bit."""
    held = [
        (buffer, buffer.clone())
        for norm in model.modules()
        if isinstance(norm, _BatchNorm)
        for buffer in norm._buffers.values()
        if buffer is not None
    ]
    renew(model, batches)
    try:
        yield
    finally:
        for buffer, value in held:
            buffer.copy_(value)


@contextmanager
def _gathering(norms: list[_BatchNorm], fresh: list[dict[str, Tensor | None]]) -> Iterator[None]:
    """Within it the norms normalise by the batch, and what they remember goes into `fresh`, a mean over all batches."""
    before = [(norm, dict(norm._buffers), norm.momentum, norm.training) for norm in norms]
    try:
        for norm, buffers in zip(norms, fresh, strict=True):
            norm._buffers.update(buffers)
            norm.momentum, norm.training = None, True
        yield
    finally:
        for norm, own, momentum, training in before:
            norm._buffers.update(own)
            norm.momentum, norm.training = momentum, training


def _blank(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else torch.zeros_like(buffer)
