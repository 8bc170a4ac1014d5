"""Accuracy in which every class counts the same, however many points it has."""

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from harp.errors import HarpError
from harp.evaluation.statistics import Z95, Estimate, require_flags

Floats = NDArray[numpy.float64]


def balanced_accuracy(right: Tensor, labels: Tensor) -> Estimate:
    """The mean, over the classes that occur in `labels`, of each class's accuracy, with a 95 % interval.

    What HARP's code reports for SVHN. `right` is bool [n], `labels` integers [n]; classes without a point have no part.
    The interval holds every mean that the points do not contradict, as `wilson`'s does for a single class. A mean is
    tested with the likeliest accuracies of the classes that have it (Miettinen & Nurminen, Statistics in Medicine
    1985): it is rejected if the measured mean is further away than 1.96 of the standard deviations it would then have.
    A class's variance is divided by n - 1 + 1/K, n its points and K the classes: fitting K accuracies to one mean
    spends K - 1 degrees of freedom. So one class has `wilson`'s interval, and many classes of few points still have
    95 %. Where most classes have a single point the interval is nearly [0, 1]: nothing then tells how much a class
    varies.
    Raises `HarpError` for flags that are not bool [n] and for labels of another length or kind.
    """
    require_flags("right", right)
    if labels.shape != right.shape or labels.is_floating_point() or labels.is_complex():
        raise HarpError(
            f"labels: expected integers [{len(right)}], one per flag, got {labels.dtype} of shape {list(labels.shape)}"
        )
    _, place, n = numpy.unique(labels.cpu().numpy(), return_inverse=True, return_counts=True)
    share = numpy.bincount(place, weights=right.cpu().numpy()) / n
    return Estimate(float(share.mean()), _lowest(share, n), 1 - _lowest(1 - share, n), len(right))


def uneven(labels: Tensor) -> bool:
    """Whether the largest class that occurs has more than half as many points again as the smallest, as in SVHN."""
    counts = torch.bincount(labels.cpu()) if len(labels) else labels
    counts = counts[counts > 0]
    return len(counts) > 0 and bool(2 * counts.max() > 3 * counts.min())


def _lowest(share: Floats, n: NDArray[numpy.int64]) -> float:
    """The lowest mean of the classes that the test does not reject, by bisection over how far down they are pulled."""
    classes, mean = len(share), share.mean()
    inside, outside = 0.0, 1.0
    # 50 halvings end within 1e-15.
    for _ in range(50):
        middle = (inside + outside) / 2
        fitted = _pulled(share, n, middle)
        variance = (fitted * (1 - fitted) / (n - 1 + 1 / classes)).sum() / classes**2
        if (mean - fitted.mean()) ** 2 <= Z95**2 * variance:
            inside = middle
        else:
            outside = middle
    return float(_pulled(share, n, inside).mean())


def _pulled(share: Floats, n: NDArray[numpy.int64], pull: float) -> Floats:
    """The likeliest accuracies of the classes whose mean lies below the measured one, by how much `pull` says.

    At 0 they are those measured, towards 1 their mean falls to 0. The likeliest for a given mean are found with a
    Lagrange multiplier m, and each solves n (share - p) = m p (1 - p). Here m is given, N pull / (1 - pull) for N
    points in all, and the mean is what comes out.
    """
    multiplier = n.sum() * pull / (1 - pull)
    linear = n + multiplier
    root = numpy.sqrt(numpy.maximum(linear**2 - 4 * multiplier * n * share, 0))
    # An accuracy that rounds to above 1 would have a variance below 0.
    fitted: Floats = numpy.minimum(2 * n * share / (linear + root), share)
    return fitted
