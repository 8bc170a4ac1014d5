"""The commands that take a recipe: its settings as flags, over those of the recipe itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from harp.cli.commands import COMMANDS
from harp.cli.flags import Parser
from harp.config import Recipe, find_recipe, fitting, make_recipe, merged, read_recipe
from harp.config.documents import parse_yaml
from harp.errors import HarpError

USUAL = "digits"


class RecipeFlags(BaseSettings, Recipe):
    """The recipe's fields as flags."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Asked:
    """A recipe's settings with the flags over them, not yet checked; the folder asked for; sources that may differ.

    `chosen` says which recipe was taken where none was named, else it is empty; `training`, that nothing is measured.
    """

    values: dict[str, Any]
    chosen: str
    folder: Path | None
    edited: tuple[str, ...]
    training: bool = False


def asked(command: str, arguments: list[str]) -> Asked:
    """What a command that takes a recipe was asked for."""
    about = COMMANDS[command]
    short = f"In this command --{command}.NAME may be written --NAME. " if command in Recipe.model_fields else ""
    parser = Parser(
        command,
        usage=f"harp {command} [RECIPE] [--folder DIR] [--SECTION.NAME VALUE ...]",
        description=f"{about[0].upper()}{about[1:]}. {short}Finished stages are skipped, begun ones resumed. "
        "Defaults are the paper's; a recipe's own settings come over them, and flags over both.",
        first=[*FIRST, *([f"{section}."] if (section := section_of(command)) else [])],
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        help="a recipe's name or YAML file, or a run's folder, which goes on by its own "
        f"(default: {USUAL}, or the paper's values where --data.name, --data.path or "
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
    if command == "run":
        parser.add_argument(
            "--train-only", action="store_true", help="the training stages alone: no test image is looked at"
        )
    parser.add_trust()
    plain, options = method_options(lengthened(command, arguments))
    own, above = parser.read(plain, RecipeFlags)
    if options:
        above = merged(above, {"prune": {"options": options}})
    below, folder, chosen = begun(own.recipe, above)
    values = merged(fitting(below, above), above)
    if folder is not None:
        from harp.networks.trust import check_named

        check_named(make_recipe(values), folder, above, own.trust)
    return Asked(values, chosen, own.folder or folder, tuple(own.edited), getattr(own, "train_only", False))


def begun(recipe: str | None, above: Mapping[str, Any]) -> tuple[Mapping[str, Any], Path | None, str]:
    """The settings that flags come over, the folder they are of if that was named, and what to say of them first."""
    if recipe is None:
        below, chosen = unnamed(above)
        return below, None, chosen
    if not (Path(recipe) / "recipe.yaml").is_file():
        return read_recipe(find_recipe(recipe)), None, ""
    # Imported late: torch takes seconds, which a recipe's name should not cost.
    from harp.pipeline.kept import settings_in

    return settings_in(Path(recipe) / "recipe.yaml"), Path(recipe), ""


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


FIRST = (
    *("seed", "device", "data.name", "data.path", "model.name", "threat.norm", "threat.eps"),
    *("prune.method", "prune.keep", "prune.granularity", "evaluation.attacks"),
)
"""The settings that most people ask for; `--help` shows these and the command's own section."""

NETWORK = ("seed", "device", "threads", "data.name", "data.path", "model.name", "threat.norm", "threat.eps")
"""The same for commands about one network."""


def section_of(command: str) -> str | None:
    """The section of the recipe that is the command's own."""
    section = {"evaluate": "evaluation"}.get(command, command)
    return section if section in Recipe.model_fields else None


def lengthened(command: str, arguments: list[str]) -> list[str]:
    """`harp prune --keep 0.1` means `--prune.keep 0.1`: flags of the command's own section may drop its name."""
    if (section := section_of(command)) is None:
        return arguments
    own = Recipe.model_fields[section].annotation
    names = {f"--{name}" for name in getattr(own, "model_fields", {}) if name not in Recipe.model_fields}
    # --options.gamma 0.1 is one of --options.
    return [f"--{section}.{a[2:]}" if re.split("[=.]", a)[0] in names else a for a in arguments]


OPTION = "--prune.options."


def method_options(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The arguments without `--prune.options.NAME VALUE`, and these by name; which there are is the method's affair.

    A value is what YAML makes of it. Raises `HarpError` for an option without a value.
    """
    rest, found = [], {}
    words = iter(arguments)
    for word in words:
        if not word.startswith(OPTION):
            rest.append(word)
            continue
        name, given, value = word.removeprefix(OPTION).partition("=")
        text = value if given else next(words, None)
        if text is None or (not given and text.startswith("--")):
            raise HarpError(f"{word} needs a value; `harp list methods NAME` tells which")
        try:
            found[name] = parse_yaml(text)
        except ValueError:
            found[name] = text
    return rest, found


def network_values(target: str, settings: Mapping[str, Any], *above: Mapping[str, Any]) -> dict[str, Any]:
    """A network's settings with others over them; `HarpError` where nothing says whose weights it is."""
    values = dict(settings)
    for layer in above:
        values = merged(values, layer)
    if not values.get("model", {}).get("name"):
        raise HarpError(f"{target} lies in no run's folder, so --model.name must say whose weights it holds")
    return values
