"""Something in a user's own Python file, named as `path/to/file.py:name`: a network, a method, an objective, ..."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Never

from harp.consent import remember
from harp.errors import HarpError, choices
from harp.sources import source_digests

OWN = "path/to/file.py:name"
PREFIX = "harp_own_"  # of the names of modules made of users' files
_LOADED: dict[Path, tuple[dict[str, str], ModuleType]] = {}


class _Uncached(SourceFileLoader):
    """Compiles a file anew: Python knows its cached bytecode by second and size, and a quick edit may keep both."""

    def path_stats(self, path: str) -> Never:
        raise OSError


def is_own(name: str) -> bool:
    """Whether `name` has the form `path/to/file.py:name`."""
    return name.rpartition(":")[0].endswith(".py")


def label_of(name: str) -> str:
    """What something is called in tables and records: of a user's own file without the file."""
    return name.rpartition(":")[2] if is_own(name) else name


def runs_again(thing: object) -> bool:
    """Whether `thing` is of a user's file, which runs anew when it was edited."""
    return str(getattr(thing, "__module__", "")).startswith(PREFIX)


def is_gone(name: str) -> bool:
    """Whether `name` is something in a Python file that is not there (any more)."""
    return is_own(name) and not Path(name.rpartition(":")[0]).expanduser().is_file()


def is_file(name: str) -> bool:
    """Whether `name` is that of a Python file."""
    return name.endswith(".py")


def load_plugin(name: str) -> None:
    """Runs a file of one's own, or imports a module, which may register names of its own.

    Raises `HarpError` where it is not there, or raises while it runs.
    """
    if is_file(name):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise HarpError(f"plugins: there is no file {name}")
        run_own(path)
        return
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever the import of a foreign module raises
        raise HarpError(f"plugins: {name} cannot be imported: {type(error).__name__}: {error}") from error
    remember(code_marks(name))


def load_own(name: str, kind: str) -> Any:
    """The function or class that `name` names, after running its file, which may import the files beside it.

    A file runs once for as long as it stays as it is, so that a class is the same one whenever it is asked for. `kind`
    is the word for what is expected, such as "model". Raises `HarpError` for a missing file, for one that raises while
    it runs, for a neighbour whose name another module has in this process, and for a name that is no callable in the
    file (the message gives the nearest that is).
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise HarpError(f"{kind} {name!r}: there is no file {file}")
    module = run_own(path)
    found = getattr(module, attribute, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise HarpError(
            f"{kind} {name!r}: no function or class {attribute!r} in {path.name}; {choices(attribute, own)}"
        )
    return found


def run_own(path: Path) -> ModuleType:
    """The module of the file, run now unless it was before and is as it was then, with what it imports."""
    known, digests = _LOADED.get(path), source_digests([path], path.parent)
    if known is not None and known[0] == digests:
        return known[1]
    if known is not None:
        _forget(path.parent / name for name in {*known[0], *digests})
    _check_neighbours(path)
    module = _run(path)
    _LOADED[path] = (source_digests([path], path.parent), module)
    remember(code_marks(str(path)))
    return module


def code_marks(name: str) -> list[str]:
    """What is remembered of code once it ran: where each of its files lies, and the file's digest.

    `name` is `path/to/file.py:name`, a Python file, or a module; nothing is run or imported. Where the files lie
    counts, too: what stands beside them unseen, such as a compiled module, was then put there by the user.
    """
    if is_own(name) or is_file(name):
        files = [Path(name.rpartition(":")[0] if is_own(name) else name).expanduser().resolve()]
    else:
        files = _module_files(name)
    found = {file: digest for path in files for file, digest in _digests(path)}
    return [f"{file} {digest}" for file, digest in found.items()] or [f"nothing found of {name}"]


def _digests(path: Path) -> Iterator[tuple[Path, str]]:
    for name, digest in source_digests([path], path.parent).items():
        yield (path.parent / name).resolve(), digest


def _module_files(name: str) -> list[Path]:
    """The file of a module, and that of the package it is in; `find_spec` of a whole name would run the package."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None or not spec.origin:
        return []
    origin = Path(spec.origin).resolve()
    inner = origin.parent.joinpath(*rest)
    places = [origin, inner.with_suffix(".py"), inner / "__init__.py"] if rest else [origin]
    return [place for place in places if place.is_file()]


def _forget(files: Iterable[Path]) -> None:
    """The modules of these files are loaded anew when they are imported the next time."""
    gone = {file.resolve() for file in files}
    for source in gone:
        Path(cache_from_source(str(source))).unlink(missing_ok=True)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).resolve() in gone:
            del sys.modules[name]


def _run(path: Path) -> ModuleType:
    # The digest keeps two files of the same name apart; dataclasses need their module to be found in sys.modules.
    name = f"{PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Last, so that a neighbour named like an installed library does not stand in its place; and for good, since an
    # import may stand inside a function.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise HarpError(f"cannot load {path}: {type(error).__name__}: {error}") from error
    return module


def _check_neighbours(path: Path) -> None:
    """Raises `HarpError` where an import means a file beside `path` and would get another module of its name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # told when the file runs
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for name in {name.partition(".")[0] for name in names}:
            loaded = getattr(sys.modules.get(name), "__file__", None)
            places = (path.with_name(f"{name}.py"), path.parent / name / "__init__.py")
            beside = next((file for file in places if file.is_file()), None)
            if loaded and beside and Path(loaded).resolve() != beside.resolve():
                raise HarpError(
                    f"{path.name} imports {name}, which would be {loaded} and not {beside}; rename the latter"
                )
