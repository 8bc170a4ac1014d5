"""Neural networks made small without being made fragile: adversarially robust pruning.

What there is stands in `__init__.pyi`; a name is loaded when it is first used, so that `import harp` costs nothing.
Without PyTorch there is `load`, for numpy arrays, and what it needs (`harp.deploy`).
"""

from importlib.util import find_spec
from typing import Any

from harp.lazily import lazily
from harp.version import VERSION

_named, __dir__, __all__ = lazily(__name__, __file__)
__version__ = VERSION


def __getattr__(name: str) -> Any:
    if name == "load" and find_spec("torch") is None:
        from harp.deploy import load

        return load
    return _named(name)
