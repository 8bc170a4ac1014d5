"""What a run would take on this machine, from a short probe of each of its stages."""

from harp.probing.estimate import Estimate, Range, estimate

__all__ = ["Estimate", "Range", "estimate"]
