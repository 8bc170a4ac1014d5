"""The packed network as one file (docs/format.md): written, read without trust, measured, checked."""

from harp.lazily import lazily

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
