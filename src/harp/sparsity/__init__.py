"""What can be pruned, how much of it may stay, and which entries those are."""

from harp.sparsity.budgets import Budget, apportion, from_rates, uniform
from harp.sparsity.channels import find_channels
from harp.sparsity.masks import Masks, top_mask
from harp.sparsity.removal import remove, resize
from harp.sparsity.sites import Site, Sites, find_sites
from harp.sparsity.units import Channels, Group, Slice

__all__ = [
    "Budget",
    "Channels",
    "Group",
    "Masks",
    "Site",
    "Sites",
    "Slice",
    "apportion",
    "find_channels",
    "find_sites",
    "from_rates",
    "remove",
    "resize",
    "top_mask",
    "uniform",
]
