"""A network that several ranks train on parts of one batch: gradients and batch norms are those of the whole batch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harp.ranks import Ranks


@contextmanager
def averaged(parameters: Iterable[Tensor], ranks: Ranks) -> Iterator[None]:
    """Inside, whatever gradient autograd takes at one of the parameters is the mean over ranks.

    Not only a step's own: AWP's and S2AP's, too, which no wrapper of the model would see. Attacks take none there.
    """
    handles = []
    if ranks.size > 1:
        handles = [
            p.register_hook(ranks.mean)  # type: ignore[no-untyped-call]
            for p in {id(p): p for p in parameters if p.requires_grad}.values()
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def synchronised(model: nn.Module, ranks: Ranks, whole: bool = True) -> Iterator[None]:
    """Inside, batch norms in train mode take their statistics from the whole batch, if `whole`; else each rank's own.

    PyTorch's own SyncBatchNorm runs on cards alone, and is another module than the one that is saved.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)] if ranks.size > 1 and whole else []
    for norm in norms:
        norm.forward = partial(_normed, norm, ranks)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normed(norm: _BatchNorm, ranks: Ranks, x: Tensor) -> Tensor:
    if not (norm.training or norm.running_mean is None):
        return type(norm).forward(norm, x)
    norm._check_input_dim(x)  # type: ignore[no-untyped-call]
    axes = [axis for axis in range(x.ndim) if axis != 1]
    ours = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    var, mean = torch.var_mean(ours, axes, correction=0)
    means, variances = _Gathered.apply(torch.stack([mean, var]), ranks).unbind(1)  # type: ignore[no-untyped-call]
    # Parts are of equal size: the whole's variance is the mean of theirs plus that of their means.
    mean = means.mean(0)
    var = variances.mean(0) + (means - mean).square().mean(0)
    _remember(norm, mean.detach(), var.detach(), x.numel() // x.shape[1] * ranks.size)
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    scaled = (ours - mean.view(shape)) * torch.rsqrt(var + norm.eps).view(shape)
    if norm.affine:
        scaled = scaled * norm.weight.view(shape) + norm.bias.view(shape)
    answer: Tensor = scaled.to(x.dtype)
    return answer


@torch.no_grad()
def _remember(norm: _BatchNorm, mean: Tensor, var: Tensor, n: int) -> None:
    """The running statistics move as PyTorch moves them, the variance without bias."""
    if norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    factor = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked or 1)
    norm.running_mean.lerp_(mean.to(norm.running_mean), factor)
    norm.running_var.lerp_((var * (n / max(n - 1, 1))).to(norm.running_var), factor)


class _Gathered(torch.autograd.Function):
    """All ranks' tensors, [size, ...]; the gradient of one's own is the sum of what all ranks' losses say of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.joined(own[None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.ranks.rank], None


def statistics(model: nn.Module) -> list[Tensor]:
    """The running statistics that a rank's own part of a batch moved."""
    return [
        buffer
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
