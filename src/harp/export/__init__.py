"""The pruned model as a file."""

from harp.export.bake import bake

__all__ = ["bake"]
