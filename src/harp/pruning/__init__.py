"""A network of the user's own pruned, fine-tuned and attacked in one call."""

from harp.pruning.asked import PruneOptions
from harp.pruning.found import Pruned
from harp.pruning.prune import prune

__all__ = ["PruneOptions", "Pruned", "prune"]
