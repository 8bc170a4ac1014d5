"""What a run's folder names that would run code or ask the network, and whether this user has done that himself."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harp.boards import LOCAL, mark
from harp.config import Recipe
from harp.consent import is_known
from harp.data import HUB
from harp.errors import HarpError
from harp.own import code_marks, is_gone, is_own

_NEWS = {
    "code": "code that you have not run before",
    "hub": "on a hub and not fetched by you before",
    "board": "which sends metrics to others and has none of yours yet",
}


def check_named(recipe: Recipe, folder: Path | None, own: Mapping[str, Any], flag: str | None) -> None:
    """Raises `HarpError` where the recipe in `folder` names what this user has never run or fetched by naming it.

    `recipe` has the user's settings `own` over the folder's; what these name is asked for. With `folder` None all of it
    is the user's own, and with `flag` None, the word that lets it pass, he has said it.
    """
    if folder is None or flag is None:
        return
    for name, what in reaching(recipe, own):
        marks = code_marks(name) if what == "code" else [mark(name) if what == "board" else name]
        if not all(map(is_known, marks)):
            raise HarpError(
                f"{folder} names {name}, {_NEWS[what]}; look at it, and then say {flag}, or name it yourself, as a "
                "setting"
            )


def reaching(recipe: Recipe, own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names in the recipe that stand for "code", for something on the "hub", or for a "board", each with that word.

    Left out are names that the settings `own` hold, too, and files that are gone. Any text that has the form of such a
    name counts, whatever setting it is: registries take them everywhere.
    """
    asked = {part.strip() for text in _texts(own) for part in text.split(",")}
    plugins = set(recipe.plugins)
    for name in dict.fromkeys([*recipe.plugins, *_texts(recipe.model_dump(mode="json"))]):
        if name in asked or is_gone(name):
            continue
        if name in plugins or is_own(name):
            yield name, "code"
        elif name.startswith(HUB) or _is_on_hub(name):
            yield name, "hub"
        elif name in recipe.boards and name not in LOCAL:
            yield name, "board"


def _is_on_hub(name: str) -> bool:
    return name.startswith("hf:") and not Path(name.removeprefix("hf:")).expanduser().is_dir()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
