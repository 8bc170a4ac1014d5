"""The pruned model as a file."""

from harp.export.bake import bake
from harp.export.fold import fold

__all__ = ["bake", "fold"]
