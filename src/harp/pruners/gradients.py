"""Gradients that are no numbers, found before a step makes weights of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harp.errors import HarpError

if TYPE_CHECKING:
    from harp.pruners.base import Pruner


def check_gradients(pruner: Pruner, optimizer: Optimizer, step: int) -> None:
    """Raises `HarpError`, by the site's name or the role, where a gradient that step `step` would use is not finite."""
    names = {site.param: site.name for site in pruner.sites}
    for group in optimizer.param_groups:
        for param in group["params"]:
            names.setdefault(param, str(group.get("role", "a parameter outside the sites")))
    grads = [(name, _dense(param.grad)) for param, name in names.items() if param.grad is not None]
    # One number for all, as a rule; a norm may also overflow over finite entries, which is no fault.
    if not grads or torch.isfinite(_norm([grad for _, grad in grads])):
        return
    for name, grad in grads:
        if not torch.isfinite(grad).all():
            raise HarpError(
                f"the gradient of {name} is NaN or infinite at step {step}, so the step was not made and every weight "
                "is as it was; a lower learning rate usually helps"
            )


def clip_gradients(optimizer: Optimizer, most: float | None) -> None:
    """The gradients of all that the optimizer trains have a common norm of at most `most`; None leaves them.

    To be called after a pruner's `pull`, which leaves nothing at pruned weights.
    """
    if most is not None:
        nn.utils.clip_grad_norm_([param for group in optimizer.param_groups for param in group["params"]], most)


@torch.no_grad()
def _norm(grads: list[Tensor]) -> Tensor:
    norms = [torch.linalg.vector_norm(grad.detach()).float() for grad in grads]
    norm: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return norm


def _dense(grad: Tensor) -> Tensor:
    return grad.detach().coalesce().values() if grad.is_sparse else grad.detach()
