"""Libraries that only some data sets need, imported when such a set is loaded."""

from importlib import import_module
from typing import Any

from harp.errors import HarpError


def need(module: str, extra: str) -> Any:
    """The module, imported; raises `HarpError` with the install command where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        library = module.split(".")[0]
        raise HarpError(
            f"this data set needs {library}; install it with pip install 'harp-pruning[{extra}]'"
        ) from error
