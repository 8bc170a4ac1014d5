"""Libraries that only some tasks need, imported when one is asked for."""

from importlib import import_module
from typing import Any

from harp.errors import HarpError


def need(module: str, extra: str, what: str = "this data set") -> Any:
    """The module, imported; raises `HarpError` with the command that helps where it is missing or fails on import."""
    library = module.split(".")[0]
    install = f"pip install 'harp-pruning[{extra}]'"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise HarpError(f"{what} needs {library}; install it with {install}") from error
        reason: Exception = error
    except Exception as error:  # a torchvision built for another torch raises RuntimeError
        reason = error
    # Installing what is installed changes nothing, and a torchvision of another torch is why timm and others fail.
    broken = "torchvision" if "torchvision" in str(reason) else library
    raise HarpError(
        f"{what} needs {library}, which is installed but fails on import ({type(reason).__name__}: {reason}); "
        f"install {broken} anew, with its torch and from one source: pip install --force-reinstall torch {broken}"
    ) from reason
