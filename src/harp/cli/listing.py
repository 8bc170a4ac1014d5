"""`harp list`: what can be named in a recipe, and what a method can be told."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harp.config import RECIPES
from harp.errors import HarpError, choices
from harp.registry import Registry


def list_names(arguments: list[str]) -> None:
    """Prints the names of the kinds asked for, all by default, or the options of `methods NAME`."""
    if len(arguments) == 2 and arguments[0] == "methods":
        list_options(arguments[1])
        return
    from harp import ALLOCATIONS, ATTACKS, DATA, DOUBTS, METHODS, MODELS, OBJECTIVES
    from harp.attacks import VERSIONS
    from harp.evaluation.corruptions import CORRUPTIONS
    from harp.zoo import find, in_words, names

    kinds: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "allocations": ALLOCATIONS,
        "objectives": OBJECTIVES,
        "attacks": ATTACKS,
        "corruptions": CORRUPTIONS,
        "doubts": DOUBTS,
        "models": MODELS,
        "data": DATA,
    }
    texts = {
        "versions": {name: f"AutoAttack, in this order: {', '.join(parts)}" for name, parts in VERSIONS.items()},
        "zoo": {name: in_words(find(name).card) for name in names()},
        "recipes": {path.stem: _first_comment(path) for path in sorted(RECIPES.glob("*.yaml"))},
    }
    texts = {**{kind: {name: kinds[kind].summary(name) for name in kinds[kind]} for kind in kinds}, **texts}
    grid = Table("kind", "name", "what it is", box=None)
    for kind in arguments or texts:
        if kind not in texts:
            raise HarpError(f"nothing to list as {kind!r}; {choices(kind, texts)}")
        for name, summary in texts[kind].items():
            grid.add_row(kind, name, summary)
    Console().print(grid)


def list_options(name: str) -> None:
    """Prints the method's summary and its options; raises `HarpError` where there is no such method."""
    from harp.pruners import METHODS

    console, fields = Console(), METHODS[name].takes.model_fields
    console.print(METHODS.summary(name), markup=False, highlight=False)
    if not fields:
        console.print(f"{name} has no options of its own.", markup=False, highlight=False)
        return
    grid = Table("--prune.options.", "default", "what it is", box=None)
    for option, field in fields.items():
        meaning = " ".join((field.description or "").split())
        choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
        words = f"{meaning} ({', '.join(map(str, choices))})" if choices else meaning
        grid.add_row(option, "none" if field.default is None else str(field.default), words)
    console.print(grid)


def _first_comment(path: Path) -> str:
    return path.read_text().split("\n")[0].removeprefix("#").strip()
