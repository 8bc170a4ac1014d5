"""Names of a package, each loaded from its module when it is first used; its `.pyi` says where each stands."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def lazily(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of the package in `file`, by the lines `from .module import name as name`.

    A module may not be called as a name is: it would take the name's place once it is imported. Where a name cannot be
    had because something is not installed, `ModuleNotFoundError` says what to install.
    """
    places = dict(_places(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")))

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(places[name], package), name)
        except ModuleNotFoundError as error:
            raise _told(f"{package}.{name}", error) from error
        sys.modules[package].__dict__[name] = value
        return value

    return get, lambda: sorted(places), sorted(places)


def _places(stub: str) -> list[tuple[str, str]]:
    found, module = [], ""
    for line in stub.splitlines():
        if begun := re.match(r"from (\.[\w.]*) import", line):
            module = begun[1]
        found += [(name, module) for name in re.findall(r"\b(\w+) as \1\b", line)]
    return found


def _told(what: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """What to install, where it is torch that is missing, or a part of harp that is not there without it."""
    missing = error.name or ""
    if missing.split(".")[0] != "harp" and find_spec("torch") is not None:
        return error
    return ModuleNotFoundError(
        f"{what} needs {missing}, which is not installed: without torch harp reads and runs packages (harp.load), and "
        "pip install harp-pruning brings all else",
        name=missing,
    )
