"""A factory from a user's own Python file, named as `path/to/file.py:factory`."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from harp.errors import HarpError, choices
from harp.models.base import Factory
from harp.registry import accepted


def _run(path: Path) -> ModuleType:
    # The digest keeps two files of the same name apart; dataclasses need their module to be found in
    # sys.modules.
    name = f"harp_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise HarpError(f"cannot load {path}: {type(error).__name__}: {error}") from error
    return module


def own_file(source: str) -> Path | None:
    """The user's own file that a network of this name is made from; None for any other network.

    That is the Python file of `path/to/file.py:factory`, and of `hf:FOLDER` the folder's configuration.
    """
    file = Path(source.rpartition(":")[0]).expanduser()
    if file.suffix == ".py":
        return file.resolve()
    folder = Path(source.removeprefix("hf:")).expanduser()
    config = folder / "config.json"
    return config.resolve() if source.startswith("hf:") and config.is_file() else None


def load_factory(source: str) -> Factory:
    """The function or class that `path/to/file.py:factory` names, after running that file.

    The file runs anew at each call, so an edit is seen. Raises `HarpError` for a missing file, one that
    raises while it runs, and a name that is no callable in it (the message gives the nearest callable defined
    there).
    """
    file, _, name = source.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise HarpError(f"model {source!r}: there is no file {file}")
    module = _run(path)
    factory: Factory | None = getattr(module, name, None)
    if not callable(factory):
        members = vars(module).items()
        own = [key for key, value in members if getattr(value, "__module__", None) == module.__name__]
        raise HarpError(f"model {source!r}: no function {name!r} in {path.name}; {choices(name, own)}")
    return factory


def build_own(source: str, *, classes: int, channels: int, size: int, width: float) -> nn.Module:
    """What the factory named by `source` returns, called with those of the four keywords it accepts.

    Raises `HarpError` for all that `load_factory` refuses, for a `width` other than 1 that the factory does
    not accept, for a factory that raises, and for a result that is no `nn.Module`.
    """
    factory = load_factory(source)
    options = {"classes": classes, "channels": channels, "size": size, "width": width}
    taken = accepted(factory, options)
    if width != 1 and "width" not in taken:
        raise HarpError(f"model {source!r} takes no width, so width {width} would change nothing; expected 1.0")
    try:
        model = factory(**taken)
    except Exception as error:
        offer = ", ".join(options)
        raise HarpError(f"model {source!r} raised {type(error).__name__}: {error} (it may take: {offer})") from error
    if not isinstance(model, nn.Module):
        raise HarpError(f"model {source!r} returned an object of type {type(model).__name__}; expected an nn.Module")
    return model
