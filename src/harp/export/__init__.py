"""The pruned model as a file."""

from harp.export.bake import bake
from harp.export.fold import fold
from harp.export.shrink import Shrunk, shrink

__all__ = ["Shrunk", "bake", "fold", "shrink"]
