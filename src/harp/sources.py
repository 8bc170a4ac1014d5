"""Which Python files of a user's make a network, and a digest of each, so that an edit is noticed."""

import ast
import contextlib
import functools
import hashlib
import io
import os
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import nn

_HERE = Path(__file__).resolve().parent
_LIBRARIES = ("site-packages", "dist-packages")


def source_digests(files: Iterable[Path], root: Path) -> dict[str, str]:
    """SHA-256 (64 hex digits) of `files` and of the user's modules they import, by path from the folder `root`.

    Imports of imports count, too. A user's module is one that lies in the tree of an importing file's folder (for a
    package: of the folder the package lies in) or of the working directory; installed libraries, Python's own and
    harp's are not. A module that Python has loaded is the file it was loaded from; another is looked for beside the
    importing file and along `sys.path`, so the answer is surest once the files have run. Comments and blank lines
    change no digest.
    """
    found: dict[Path, str] = {}
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found[file] = _digest(file)
            waiting += _imported(file)
    return dict(sorted((Path(os.path.relpath(file, root.resolve())).as_posix(), text) for file, text in found.items()))


def edited(before: Mapping[str, str], root: Path) -> list[str]:
    """The names in `before`, made by `source_digests` with the folder `root`, whose files are gone or not the same."""
    return [name for name, digest in before.items() if not (root / name).is_file() or _digest(root / name) != digest]


def written_in(*things: object) -> list[Path]:
    """The user's files in which `things` are written: functions, classes, objects by their class, a network's all.

    What was typed into an interpreter or a notebook is in no file and adds none.
    """
    files = {file for thing in things for kind in _kinds(thing) if (file := _file_of(kind))}
    return sorted(file for file in files if not _is_library(file))


def _kinds(thing: object) -> Iterator[object]:
    """The classes and functions that decide what `thing` does."""
    if isinstance(thing, functools.partial):
        yield from _kinds(thing.func)
    elif isinstance(thing, nn.Module):
        for module in thing.modules():
            yield from type(module).__mro__
    elif getattr(thing, "__self__", None) is not None:  # a method
        yield from _kinds(thing.__self__)  # type: ignore[attr-defined]
    elif isinstance(thing, type):
        yield from thing.__mro__
    elif hasattr(thing, "__code__"):
        yield thing
    else:
        yield from type(thing).__mro__


def _file_of(kind: object) -> Path | None:
    code = getattr(kind, "__code__", None)
    name = code.co_filename if code else getattr(sys.modules.get(getattr(kind, "__module__", "")), "__file__", None)
    path = Path(name).resolve() if name else None
    return path if path and path.suffix == ".py" and path.is_file() else None


def _imported(file: Path) -> list[Path]:
    """The user's files that `file` imports, wherever in it the import stands."""
    if file.suffix != ".py":
        return []
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []
    paths = {path for node in ast.walk(tree) for path in _modules(node, file)}
    trees = (_home(file), Path.cwd())
    return sorted(path for path in paths if not _is_library(path) and any(path.is_relative_to(t) for t in trees))


def _modules(node: ast.AST, file: Path) -> Iterator[Path]:
    """The file of every module and package that an import may load."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _along(alias.name, file)
    elif isinstance(node, ast.ImportFrom):
        base = [node.module] if node.module else []
        for alias in node.names:
            name = ".".join([*base, alias.name])
            if node.level == 0:
                yield from _along(name, file)
            elif node.level <= len(file.parents):
                yield from _inside(name, [file.parents[node.level - 1]])


def _along(name: str, file: Path) -> Iterator[Path]:
    """The files of an absolute name's packages and its own: those loaded, else those Python would find."""
    parts = name.split(".")
    for dotted in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
        loaded = getattr(sys.modules.get(dotted), "__file__", None)
        if loaded is None:
            yield from _inside(dotted, [file.parent, *map(Path, sys.path)])
        elif loaded.endswith(".py"):
            yield Path(loaded).resolve()


def _inside(name: str, places: Sequence[Path]) -> Iterator[Path]:
    """The file of the module `name`, and of each package above it, in the first of `places` that has it."""
    parts = name.split(".")
    for stems in ([place.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)] for place in places):
        files = [path for stem in stems for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")]
        if found := [path.resolve() for path in files if path.is_file()]:
            yield from found
            return


def _home(file: Path) -> Path:
    """The folder of the file, or, of one in a package, the folder that the outermost package lies in."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


@functools.cache
def _is_library(file: Path) -> bool:
    standard = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return any(part in _LIBRARIES for part in file.parts) or any(file.is_relative_to(p) for p in (*standard, _HERE))


def _digest(file: Path) -> str:
    data = file.read_bytes()
    # Of what this Python cannot read every byte counts.
    with contextlib.suppress(SyntaxError, tokenize.TokenError, UnicodeError):
        data = _code(data).encode() if file.suffix == ".py" else data
    return hashlib.sha256(data).hexdigest()


def _code(data: bytes) -> str:
    """The text less its comments, its blank lines and the way its lines end."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    lines = io.TextIOWrapper(io.BytesIO(data), encoding).readlines()
    for token in list(tokenize.generate_tokens(iter(lines).__next__)):
        row = token.start[0] - 1
        if token.type == tokenize.COMMENT:
            lines[row] = lines[row][: token.start[1]].rstrip() + "\n"
        elif token.type == tokenize.NL and not lines[row].strip():
            lines[row] = ""
    return "".join(lines)
