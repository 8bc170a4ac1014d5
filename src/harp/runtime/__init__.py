"""The sparse engine: compiled kernels that skip what was pruned, and PyTorch where they cannot."""

from harp.lazily import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
