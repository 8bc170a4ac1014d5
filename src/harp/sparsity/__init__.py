"""What can be pruned, how much of it may stay, and which entries those are."""

from harp.sparsity.budgets import Budget, apportion, from_rates, uniform
from harp.sparsity.masks import Masks, top_mask
from harp.sparsity.sites import Site, Sites, find_sites

__all__ = ["Budget", "Masks", "Site", "Sites", "apportion", "find_sites", "from_rates", "top_mask", "uniform"]
