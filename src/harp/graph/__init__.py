"""Networks as operator graphs, which need no Python class to be kept, rewritten or run."""

from harp.lazily import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
