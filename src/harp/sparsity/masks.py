"""Boolean masks over weights: exact top-k with a deterministic rule for ties."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from harp.errors import HarpError


def top_mask(scores: Tensor, count: int) -> Tensor:
    """A bool mask of the shape of `scores` that is true at exactly `count` of the largest entries.

    Of equal scores those of the lowest flat index come first, on every device. Raises `ValueError` for a count
    outside 0..size and `HarpError` for scores that hold NaN.
    """
    flat = scores.detach().flatten()
    if not 0 <= count <= len(flat):
        raise ValueError(f"count: expected 0 to {len(flat)}, got {count}")
    if len(flat) and flat.max().isnan():
        raise HarpError("the pruning scores hold NaN, so no order among the weights exists")
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # A threshold alone would keep or drop every tie.
    threshold = _smallest(flat, len(flat) - count + 1)
    mask = flat > threshold
    tied = (flat == threshold).nonzero().flatten()
    mask[tied[: count - int(mask.count_nonzero())]] = True
    return mask.view(scores.shape)


SAMPLE = 16_384
"""Values that say where in a large layer to look."""


def _smallest(values: Tensor, rank: int) -> Tensor:
    """The value of `rank`, 1 the smallest; as `kthvalue`, in a third of its time for millions of values on a CPU.

    Every so manyth value makes a sample, in which four standard deviations on either side of the rank's place bound it;
    only what lies between is ordered, and all of it should the bounds miss.
    """
    size = len(values)
    if size < 8 * SAMPLE or values.device.type != "cpu":
        return values.kthvalue(rank).values
    sample = values[:: size // SAMPLE]
    share = rank / size
    place, spread = share * len(sample), 4 * (len(sample) * share * (1 - share)) ** 0.5 + 4
    low = sample.kthvalue(max(1, int(place - spread))).values
    upper = values >= low
    found = values[upper]
    if place + spread < len(sample):
        found = values[upper & (values <= sample.kthvalue(int(place + spread)).values)]
    rest = rank - (size - int(upper.count_nonzero()))
    return found.kthvalue(rest).values if 0 < rest <= len(found) else values.kthvalue(rank).values


class Masks(Mapping[str, Tensor]):
    """Site name -> bool mask of the site's shape; raises `HarpError` for another type, an empty or no mask."""

    def __init__(self, bits: Mapping[str, Tensor]):
        if not bits:
            raise HarpError("no masks were given")
        for name, bit in bits.items():
            if bit.dtype is not torch.bool:
                raise HarpError(f"mask {name!r}: expected bool, got {bit.dtype}")
            if not bit.any():
                raise HarpError(f"mask {name!r} keeps no weight: the layer would be cut through")
        self._bits = dict(bits)

    def __getitem__(self, name: str) -> Tensor:
        return self._bits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    @property
    def counts(self) -> dict[str, int]:
        """How many weights each site keeps."""
        return {name: int(bit.sum()) for name, bit in self.items()}

    @property
    def kept(self) -> int:
        """How many weights are kept in all."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """How many weights the masks cover."""
        return sum(bit.numel() for bit in self.values())

    @property
    def density(self) -> float:
        """The kept share, counted from the masks: a kept weight that happens to be zero counts as kept."""
        return self.kept / self.total
