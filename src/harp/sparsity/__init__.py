"""What can be pruned, how much of it may stay, and which entries those are."""

from harp.sparsity.allocations import ALLOCATIONS, above_threshold, allocation, allot, from_logits, from_rates, rates_at
from harp.sparsity.blocks import Blocks
from harp.sparsity.budgets import Budget, Counts, Family, apportion
from harp.sparsity.channel_units import ChannelUnits, find_units
from harp.sparsity.channels import find_channels
from harp.sparsity.connectivity import Flow, connect
from harp.sparsity.costs import Cost, Latency, Vector, trace_macs
from harp.sparsity.groups import Channels, Group, Slice
from harp.sparsity.masks import Masks, top_mask
from harp.sparsity.overall import largest
from harp.sparsity.removal import remove, resize
from harp.sparsity.sites import Site, Sites, checked, find_frozen, find_sites, find_weights
from harp.sparsity.units import Units, Weights, units_of

__all__ = [
    "ALLOCATIONS",
    "Blocks",
    "Budget",
    "ChannelUnits",
    "Channels",
    "Cost",
    "Counts",
    "Family",
    "Flow",
    "Group",
    "Latency",
    "Masks",
    "Site",
    "Sites",
    "Slice",
    "Units",
    "Vector",
    "Weights",
    "above_threshold",
    "allocation",
    "allot",
    "apportion",
    "checked",
    "connect",
    "find_channels",
    "find_frozen",
    "find_sites",
    "find_units",
    "find_weights",
    "from_logits",
    "from_rates",
    "largest",
    "rates_at",
    "remove",
    "resize",
    "top_mask",
    "trace_macs",
    "units_of",
]
