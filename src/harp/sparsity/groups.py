"""Channels that can only go together: which index of which tensor belongs to which of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slice:
    """One axis of one tensor of the `state_dict`, and which unit each of its indices belongs to.

    `owner` is int64 [length of that axis]: the number of a unit, or -1 for an index of no unit of the group. A tied
    tensor appears once, under its first name.
    """

    name: str
    axis: int
    owner: Tensor

    def mask(self, keep: Tensor) -> Tensor:
        """Which indices of this axis stay where the units `keep` (bool [units]) stay: bool [length of the axis]."""
        # Index -1 reads the entry that is appended: what belongs to no unit stays.
        return torch.cat([keep, keep.new_ones(1)])[self.owner.to(keep.device)]

    @property
    def each(self) -> int:
        """How many indices of this axis every unit has."""
        return int((self.owner == 0).sum())


@dataclass(frozen=True, eq=False)
class Group:
    """`size` units, each of which is removed everywhere or nowhere.

    `name` is that of the first weight, in definition order, whose outputs the units are. `members` are all axes that
    shrink when units go. `consumers` are those of them that are input axes of weights: every path out of a unit leads
    through them, so that zeros there silence it exactly. All units have equally many indices on an axis.
    """

    name: str
    size: int
    members: tuple[Slice, ...]
    consumers: tuple[Slice, ...]


@dataclass(frozen=True)
class Channels:
    """The groups of a network, and the reasons why its other channels stay (`fixed`: name of a weight -> reason)."""

    groups: tuple[Group, ...]
    fixed: Mapping[str, str]
