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
    if torch.isnan(flat).any():
        raise HarpError("the pruning scores hold NaN, so no order among the weights exists")
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # A threshold alone would keep or drop every tie; the cumulative sum admits just as many ties as fit.
    threshold = flat.kthvalue(len(flat) - count + 1).values
    above = flat > threshold
    tied = flat == threshold
    mask = above | (tied & (tied.cumsum(0) <= count - above.sum()))
    return mask.view(scores.shape)


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
