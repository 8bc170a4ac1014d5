"""The code that a network or an attack runs, as digests: a mended function is another network."""

import ast
import functools
import hashlib
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
import torch.fx
from torch import nn

_OURS = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (sys.modules["harp"], torch))
_STANDARD = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_INSTALLED = ("site-packages", "dist-packages")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def code_of(things: Iterable[object]) -> tuple[dict[str, str], list[nn.Module]]:
    """Digests (16 hex digits) by name of every function that `things` may run, and the networks among what they reach.

    `things` are networks, functions, methods and callable objects. From each all is followed that is called by its name
    or held in a closure or an attribute; harp, torch and Python itself, whose versions are recorded, are left out, and
    of another installed library its version counts. Comments, docstrings and layout change no digest; where there is no
    source, as of what was typed into an interpreter, the bytes that Python compiled count.
    """
    reached = _Reached()
    for thing in things:
        reached.visit(thing)
    parts: dict[str, list[str]] = {}
    for function in reached.functions:
        name = function.__qualname__.rpartition("<locals>.")[2]
        parts.setdefault(name, []).append(_text(function.__code__))
    for text, module in reached.scripts:
        parts.setdefault(f"code of {module}", []).append(text)
    parts |= {name: [version] for name, version in reached.libraries.items()}
    return {name: _short("\0".join(sorted(texts))) for name, texts in sorted(parts.items())}, reached.networks


class _Reached:
    def __init__(self) -> None:
        self.functions: list[FunctionType] = []
        self.networks: list[nn.Module] = []
        self.scripts: list[tuple[str, str]] = []
        self.libraries: dict[str, str] = {}
        self._seen: dict[int, object] = {}  # holding them: the id of one that is gone may be given to another

    def visit(self, thing: object) -> None:
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, functools.partial):
            self._all((thing.func, *thing.args, *thing.keywords.values()))
        elif isinstance(thing, MethodType):
            self._all((thing.__func__, thing.__self__))
        elif isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, nn.Module):
            self._network(thing)
        elif callable(thing):
            self._object(thing)

    def _all(self, things: Iterable[object]) -> None:
        for thing in things:
            if isinstance(thing, list | tuple):
                self._all(thing)
            elif isinstance(thing, dict):
                self._all(thing.values())
            elif callable(thing):
                self.visit(thing)

    def _function(self, function: FunctionType) -> None:
        self._all(cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
        self._all((function.__defaults__ or (), function.__kwdefaults__ or {}))
        library = _library(function.__code__.co_filename)
        if library is None:
            self.functions.append(function)
            self._all(_named(function))
        elif library:
            self.libraries[library] = str(getattr(sys.modules.get(library), "__version__", ""))

    def _class(self, kind: type) -> None:
        for part in kind.__mro__:
            if part.__module__.partition(".")[0] in ("torch", "harp", "builtins"):
                continue
            for value in vars(part).values():
                inner = (value.fget, value.fset) if isinstance(value, property) else (value,)
                self._all(getattr(one, "__func__", one) for one in inner if not isinstance(one, type))

    def _object(self, thing: object) -> None:
        self._class(type(thing))
        self._all(getattr(thing, "__dict__", {}).values())

    def _network(self, network: nn.Module) -> None:
        self.networks.append(network)
        for module in network.modules():
            self._seen[id(module)] = module
            self._object(module)
            if isinstance(module, torch.jit.ScriptModule):
                # Numbers are in the graph alone; how often a class was compiled is no part of it.
                graph = re.sub(r"___torch_mangle_\d+\.", "", module.graph.str(False))  # type: ignore[attr-defined]
                self.scripts.append((graph, str(module.original_name)))
            elif isinstance(module, torch.fx.GraphModule):
                self.scripts.append((module.code, type(module).__name__))


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  raises where the variable has no value yet
    except ValueError:
        return False
    return True


def _named(function: FunctionType) -> Iterator[object]:
    """What the names in the function stand for: globals, and members of the user's own modules."""
    names = set(_names(function.__code__))
    spaces: list[Mapping[str, Any]] = [function.__globals__]
    for name in sorted(names):
        for space in spaces[:1]:
            value = space.get(name)
            if isinstance(value, ModuleType) and _library(getattr(value, "__file__", None) or "") is None:
                spaces.append(vars(value))
    for space in spaces:
        yield from (space[name] for name in sorted(names & space.keys()))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _library(file: str) -> str | None:
    """The name of the installed library the file belongs to, "" for harp's, torch's and Python's own; else None."""
    if not file or file.startswith(("<frozen", *_OURS)):
        return ""
    parts = Path(file).parts
    for folder in _INSTALLED:
        if folder in parts:
            return parts[parts.index(folder) + 1].removesuffix(".py")
    return "" if file.startswith(_STANDARD) else None


def _text(code: CodeType) -> str:
    linecache.checkcache(code.co_filename)
    found = [
        ast.unparse(node)
        for node in _definitions("".join(linecache.getlines(code.co_filename)))
        if _line(node) == code.co_firstlineno and getattr(node, "name", "<lambda>") == code.co_name
    ]
    return "\n".join(found) or _compiled(code)


@functools.lru_cache(maxsize=64)
def _definitions(source: str) -> tuple[_Definition, ...]:
    try:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _Definition)]
    except (SyntaxError, ValueError, RecursionError):
        return ()
    for node in nodes:
        if not isinstance(node, ast.Lambda) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tuple(nodes)


def _line(node: _Definition) -> int:
    marks = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(mark.lineno for mark in marks)])


def _compiled(code: CodeType) -> str:
    return " ".join([code.co_code.hex(), *code.co_names, *map(_constant, code.co_consts)])


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return _compiled(value)
    # A set of words has another order in another process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
