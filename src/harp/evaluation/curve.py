"""Robust accuracy against eps, from the distance at which each point breaks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.evaluation.statistics import wilson


@dataclass(frozen=True)
class SecurityCurve:
    """Robust accuracy at each `eps`, with the ends of its pointwise 95 % Wilson interval; float64 [m], of `n` points.

    A step function: between two values of `eps` the accuracy is the former's.
    """

    eps: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    n: int


@dataclass(frozen=True)
class Radius:
    """The `eps` at which robust accuracy has fallen to some share, and a 95 % interval; inf where it never does."""

    eps: float
    low: float
    high: float


def security_curve(distances: Tensor, grid: Sequence[float] | Tensor | None = None) -> SecurityCurve:
    """The share of points that no perturbation of norm at most eps breaks, as far as a minimum-norm attack found.

    `distances` is float [n], in the norm and unit of eps: 0 where the model is wrong on the clean image, inf where
    nothing was found. A distance of exactly eps is broken. `grid` is increasing and finite; none: 0 and every distance,
    which is the whole function. Grid and distances are compared in the distances' own dtype. Raises `HarpError` for
    distances that are negative, NaN or not float [n], and for a grid that is none.
    """
    _require(distances)
    found = distances.detach().cpu().sort().values
    eps = _steps(found) if grid is None else _checked(grid)
    counts = len(found) - torch.searchsorted(found, eps.to(found.dtype), right=True)
    bounds = torch.tensor([wilson(int(count), len(found)) for count in counts], dtype=torch.float64, device="cpu")
    return SecurityCurve(eps, counts.double() / len(found), bounds[:, 0], bounds[:, 1], len(found))


def radius_at(distances: Tensor, share: float = 0.5) -> Radius:
    """The smallest eps at which at most `share` of all points are still right; for a half, the median distance.

    `distances` as for `security_curve`, points that are wrong clean included. The interval holds every eps at which the
    pointwise interval of the accuracy has `share` in it. Raises `HarpError` for a share outside ]0, 1[.
    """
    if not 0 < share < 1:
        raise HarpError(f"share: expected a number between 0 and 1, both excluded, got {share!r}")
    curve = security_curve(distances)
    return Radius(*(_first(curve.eps, values <= share) for values in (curve.accuracy, curve.low, curve.high)))


def _first(eps: Tensor, reached: Tensor) -> float:
    return float(eps[reached][0]) if reached.any() else math.inf


def _steps(found: Tensor) -> Tensor:
    return torch.tensor(sorted({0.0, *found[found.isfinite()].tolist()}), dtype=torch.float64, device="cpu")


def _require(distances: Tensor) -> None:
    if not distances.is_floating_point() or distances.ndim != 1 or not len(distances):
        shape = list(distances.shape)
        raise HarpError(f"distances: expected float [n], n > 0, got {distances.dtype} of shape {shape}")
    if not (distances >= 0).all():
        raise HarpError("distances: expected numbers of at least 0, inf where nothing was found; one is below 0 or NaN")


def _checked(grid: Sequence[float] | Tensor) -> Tensor:
    eps = torch.as_tensor(grid, dtype=torch.float64, device="cpu")
    if eps.ndim != 1 or not len(eps) or not eps.isfinite().all() or eps[0] < 0 or (eps.diff() <= 0).any():
        raise HarpError(f"grid: expected finite, increasing values of eps, the first at least 0, got {eps.tolist()}")
    return eps
