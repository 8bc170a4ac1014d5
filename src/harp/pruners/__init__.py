"""The pruning methods, each one file, all working by pull and push."""

from harp.pruners.base import METHODS, Masked, Pruner, Reparam
from harp.pruners.harp import Harp
from harp.pruners.hydra import Hydra

__all__ = ["METHODS", "Harp", "Hydra", "Masked", "Pruner", "Reparam"]
