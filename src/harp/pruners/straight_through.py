"""The mask of the largest scores, with gradients for the scores and for the rate that decides how many."""

from typing import Any, Literal

import torch
from torch import Tensor

from harp.sparsity import top_mask

Estimator = Literal["sum", "pruned", "marginal", "zero"]


def top_share(score: Tensor, rate: Tensor, count: int, estimator: Estimator = "sum") -> Tensor:
    """`TopShare`, typed."""
    mask: Tensor = TopShare.apply(score, rate, count, estimator)  # type: ignore[no-untyped-call]
    return mask


class TopShare(torch.autograd.Function):
    """The mask, as floats, of the `count` largest |score|; the gradient passes straight through.

    With G the gradient at the mask, score gets G * sign(score). What the group's keep rate gets is the estimator's:
    "sum" the sum of G over the whole group, pruned entries included (HARP's published code, METHODS 1.3); "pruned" the
    sum over the pruned entries; "marginal" n times the mean of G over the ranks next to the cut, which tends to the
    derivative of the loss by the rate as n grows; "zero" nothing, the null model of METHODS 1.11.
    """

    @staticmethod
    def forward(ctx: Any, score: Tensor, rate: Tensor, count: int, estimator: Estimator) -> Tensor:
        mask = top_mask(score.abs(), count)
        ctx.save_for_backward(score, rate, mask)
        ctx.count, ctx.estimator = count, estimator
        return mask.to(score.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        score, rate, mask = ctx.saved_tensors
        (grad,) = grads
        if ctx.estimator == "sum":
            slope = grad.sum()
        elif ctx.estimator == "pruned":
            slope = grad.masked_fill(mask, 0).sum()
        elif ctx.estimator == "marginal":
            slope = grad.numel() * grad.flatten()[_margin(score, ctx.count)].mean()
        else:
            slope = torch.zeros_like(rate)
        return grad * score.sign(), slope.to(rate.device), None, None


def _margin(score: Tensor, count: int) -> Tensor:
    """Flat indices of the ranks on both sides of the cut, as many on either: 32, or 1 % where that is more."""
    size = score.numel()
    width = max(1, min(max(32, size // 100), count, size - count))
    last = min(count + width, size)
    return score.abs().flatten().topk(last).indices[max(0, count - width) :]
