"""Corners, dual norms, large radii and sparse steps: what the checks need of a threat beside its own verbs."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from harp.threats import Threat


def diagonal(threat: Threat, x: Tensor) -> float:
    """The threat's norm of the box's diagonal, for images like `x` [n, ...]."""
    return (threat.high - threat.low) * _ones(threat, x)


def corners(threat: Threat, x: Tensor, signs: Tensor) -> Tensor:
    """`x` moved by `signs` (-1 or 1, shape of `x`) to corners of the largest L-inf ball in the threat's, in the box."""
    return threat.project(x + signs * (threat.eps / _ones(threat, x)), x)


def dual(threat: Threat, grad: Tensor) -> Tensor:
    """How much a perturbation of norm 1 raises, at best, a linear loss of gradient `grad` [n, ...]: [n]."""
    order = {1: math.inf, 2: 2, math.inf: 1}[threat.norm]
    steepness: Tensor = torch.linalg.vector_norm(grad.flatten(1), ord=order, dim=1)
    return steepness


def move(threat: Threat, grad: Tensor, size: float) -> Tensor:
    """A perturbation of norm `size` up the gradient [n, ...]: the steepest for norms inf and 2, a sparse one for 1."""
    if threat.norm != 1:
        return threat.step(grad, size)
    # The steepest is along one pixel; along a tenth of them an attack arrives sooner (Tramer & Boneh, NeurIPS 2019).
    flat = grad.flatten(1)
    count = max(1, flat.shape[1] // 10)
    least = flat.abs().topk(count).values[:, -1:]
    return torch.where(flat.abs() >= least, flat.sign() * size / count, 0).view_as(grad)


def enlarged(threat: Threat, x: Tensor) -> Threat:
    """The same threat at a radius where no network can be robust.

    64/255 of the box for norm inf, and the ball around that ball for the others, since what breaks inside breaks; at
    least 8 eps, since digits may well be robust at 64/255; at most half the diagonal, where every image can be turned
    into the grey one (Carlini et al. 2019, section 5.5).
    """
    whole = diagonal(threat, x)
    return replace(threat, eps=max(threat.eps, min(max(64 / 255 * whole, 8 * threat.eps), whole / 2)))


def _ones(threat: Threat, x: Tensor) -> float:
    return float(x[0].numel() ** (1 / threat.norm))
