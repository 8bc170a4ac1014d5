"""Stratified parts of a data set, the same for the same seed."""

import numpy as np
import torch
from torch import Tensor

from harp.errors import HarpError
from harp.randomness import Keyed, generator


def holdout(labels: Tensor, share_or_count: float | int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (int64, ascending) of a training and a validation part: disjoint, and together the whole set.

    A float is the validation part's share, an int its number of images. Each class gives in proportion
    (largest remainder), keeps at least one image for training, and has at least one in validation wherever it
    has two and the validation part is large enough; where it is not, no class has more than one. The draw is
    `(seed, "holdout")`. Raises `HarpError` for a share outside (0, 1), and a count below 1 or that takes some
    class's last training image.
    """
    if isinstance(share_or_count, float) and not 0 < share_or_count < 1:
        raise HarpError(f"a validation share of {share_or_count}; expected a number between 0 and 1, or a whole count")
    sizes = _sizes(labels)
    count = share_or_count if isinstance(share_or_count, int) else round(share_or_count * len(labels))
    most = len(labels) - len(sizes)
    if not 1 <= count <= most:
        raise HarpError(
            f"a validation part of {share_or_count} is {count} of {len(labels)}; expected 1 to {most}, "
            f"which leaves each of the {len(sizes)} classes one image to train on"
        )
    once = [min(size - 1, 1) for size in sizes]
    rest = [size - 1 for size in sizes]
    low, high = (once, rest) if count >= sum(once) else ([0] * len(sizes), once)
    counts = _between(_proportional(sizes, count), low, high)
    chosen = _choose(labels, counts, generator(seed, "holdout"))
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices (int64, ascending) of exactly `count` images, each class in proportion (largest remainder).

    The draw is `(seed, "subset")`. Raises `HarpError` where `count` is not from 1 to the number of labels.
    """
    if not 1 <= count <= len(labels):
        raise HarpError(f"a subset of {count} images; expected 1 to {len(labels)}, the images there are")
    counts = _proportional(_sizes(labels), count)
    return _choose(labels, counts, generator(seed, "subset")).nonzero().flatten()


def nested(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices (int64, ascending) of `count` images, each class less than one off its proportion; all where there are.

    Those of a smaller count are among those of a larger one. The draw is `(seed, "nested")`. Raises `HarpError` where
    `count` is below 1. Source of the shares: the quota method of Balinski and Young (1975), which, unlike largest
    remainders, takes nothing back as the count grows.
    """
    if count < 1:
        raise HarpError(f"a draw of {count} images; expected at least 1")
    if count >= len(labels):
        return torch.arange(len(labels))
    keys = Keyed.of(torch.arange(len(labels)), seed, "nested").uniform(()).flatten()
    order = keys.argsort(stable=True)
    _, classes = torch.unique(labels.cpu(), return_inverse=True)
    # Classes are numbered by their first image in random order: of equal ones the first is served first.
    members: dict[int, list[int]] = {}
    for place, label in zip(order.tolist(), classes[order].tolist(), strict=True):
        members.setdefault(label, []).append(place)
    taken = _quota([len(places) for places in members.values()], count)
    chosen = [place for places, n in zip(members.values(), taken, strict=True) for place in places[:n]]
    return torch.tensor(sorted(chosen))


def _quota(sizes: list[int], count: int) -> list[int]:
    """How many of each class, given out one by one to who has least for its size and would not exceed its share."""
    size, given, total = np.array(sizes), np.zeros(len(sizes), np.int64), sum(sizes)
    for step in range(1, count + 1):
        worth = np.where(given * total < size * step, size / (given + 1), -1.0)
        given[worth.argmax()] += 1
    return [int(n) for n in given]


def _sizes(labels: Tensor) -> list[int]:
    return [int(size) for size in torch.unique(labels, return_counts=True)[1]]


def _proportional(sizes: list[int], count: int) -> list[int]:
    # In integers, so that no rounding of size * count / total tips a remainder; ties go to the lower class.
    total = sum(sizes)
    counts = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda index: -(sizes[index] * count % total))
    for index in by_remainder[: count - sum(counts)]:
        counts[index] += 1
    return counts


def _between(counts: list[int], low: list[int], high: list[int]) -> list[int]:
    """Counts of the same sum within the bounds, which sum(low) <= sum(counts) <= sum(high) makes possible."""
    counts = list(counts)
    while True:
        room = [most - count for most, count in zip(high, counts, strict=True)]
        spare = [count - least for least, count in zip(low, counts, strict=True)]
        if min(room) >= 0 and min(spare) >= 0:
            return counts
        giver = room.index(min(room)) if min(room) < 0 else spare.index(max(spare))
        taker = spare.index(min(spare)) if min(spare) < 0 else room.index(max(room))
        counts[giver] -= 1
        counts[taker] += 1


def _choose(labels: Tensor, counts: list[int], noise: torch.Generator) -> Tensor:
    """True (bool [n], on the CPU) at `counts[i]` random images of the i-th class present."""
    _, classes, sizes = torch.unique(labels.cpu(), return_inverse=True, return_counts=True)
    order = torch.randperm(len(classes), generator=noise, device="cpu")
    order = order[classes[order].argsort(stable=True)]
    place = torch.arange(len(classes), device="cpu") - (sizes.cumsum(0) - sizes)[classes[order]]
    chosen = torch.zeros(len(classes), dtype=torch.bool, device="cpu")
    chosen[order] = place < torch.tensor(counts, device="cpu")[classes[order]]
    return chosen
