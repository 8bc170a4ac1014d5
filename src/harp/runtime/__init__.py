"""The sparse engine: compiled kernels that skip what was pruned, and PyTorch where they cannot."""

from harp.runtime.engine import Engine, Fallback, compile
from harp.runtime.native import built, variants

__all__ = ["Engine", "Fallback", "built", "compile", "variants"]
