"""The commands that take a recipe: its settings as flags, over those of the recipe itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from harp.cli.flags import Parser
from harp.config import Recipe, find_recipe, read_recipe
from harp.errors import HarpError

USUAL = "digits"
STAGES = {
    "pretrain": "train the dense network adversarially",
    "prune": "learn which weights to keep",
    "finetune": "train the weights that are left",
    "evaluate": "attack the networks of a run, or any network",
    "export": "write the network of a run, or any network, to files and check them",
    "report": "make report.html from the recorded results",
}


class RecipeFlags(BaseSettings, Recipe):
    """The recipe's fields as flags."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Asked:
    """A recipe's settings with the flags over them, not yet checked; the folder asked for; sources that may differ.

    `chosen` says which recipe was taken where none was named, else it is empty.
    """

    values: dict[str, Any]
    chosen: str
    folder: Path | None
    edited: tuple[str, ...]


def asked(command: str, arguments: list[str]) -> Asked:
    """What a command that takes a recipe was asked for."""
    about = "all stages in turn" if command == "run" else STAGES[command]
    short = f"In this command --{command}.NAME may be written --NAME. " if command in Recipe.model_fields else ""
    parser = Parser(
        command,
        usage=f"harp {command} [RECIPE] [--folder DIR] [--SECTION.NAME VALUE ...]",
        description=f"{about[0].upper()}{about[1:]}. {short}Finished stages are skipped, begun ones resumed. "
        "Defaults are the paper's; a recipe's own settings come over them, and flags over both.",
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        help=f"a recipe's name or YAML file (default: {USUAL}, or the paper's values where --data.name, --data.path or "
        "--model.name says something else)",
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the run lives (default: runs/NAME-IDENTITY)")
    parser.add_argument(
        "--edited",
        action="append",
        default=[],
        metavar="FILE",
        help="go on though this source of your network was edited since the run began; it is noted",
    )
    own, above = parser.read(lengthened(command, arguments), RecipeFlags)
    below, chosen = (read_recipe(find_recipe(own.recipe)), "") if own.recipe else unnamed(above)
    return Asked(merged(below, above), chosen, own.folder, tuple(own.edited))


def unnamed(above: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The settings below those of a job without a recipe's name, and a line that says so.

    They are those of `USUAL` for its own images and network. Its numbers are tuned to these, so for others they are
    none at all: the defaults, which are the paper's.
    """
    usual = read_recipe(find_recipe(USUAL))
    data, model = above.get("data", {}), above.get("model", {})
    names = {"data set": (usual["data"], data), "network": (usual["model"], model)}
    other = [what for what, (own, given) in names.items() if given.get("name", own["name"]) != own["name"]]
    if "path" in data and not other:
        other = ["data set"]
    if not other:
        return usual, f"no recipe is named: {USUAL}"
    return {}, f"no recipe is named, and {USUAL} is tuned to another {' and '.join(other)}: the paper's defaults"


def lengthened(command: str, arguments: list[str]) -> list[str]:
    """`harp prune --keep 0.1` means `--prune.keep 0.1`: flags of the command's own section may drop its name."""
    section = {"evaluate": "evaluation"}.get(command, command)
    if section not in Recipe.model_fields:
        return arguments
    own = Recipe.model_fields[section].annotation
    names = {f"--{name}" for name in getattr(own, "model_fields", {}) if name not in Recipe.model_fields}
    return [f"--{section}.{a[2:]}" if a.split("=")[0] in names else a for a in arguments]


def network_values(target: str, settings: Mapping[str, Any], *above: Mapping[str, Any]) -> dict[str, Any]:
    """A network's settings with others over them; `HarpError` where nothing says whose weights it is."""
    values = dict(settings)
    for layer in above:
        values = merged(values, layer)
    if not values.get("model", {}).get("name"):
        raise HarpError(f"{target} lies in no run's folder, so --model.name must say whose weights it holds")
    return values


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `below` with those `above` over them, section by section."""
    both = {name: (below.get(name), value) for name, value in above.items()}
    inner = {n: merged(b, a) for n, (b, a) in both.items() if isinstance(a, Mapping) and isinstance(b, Mapping)}
    return {**below, **above, **inner}
