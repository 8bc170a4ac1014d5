"""The command line: parses, then calls the pipeline."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from rich.table import Table

from harp.cli.flags import Parser
from harp.cli.inspect import inspect_model
from harp.config import RECIPES, Recipe, find_recipe, make_recipe, read_recipe
from harp.errors import HarpError, choices
from harp.registry import Registry

STAGES = {
    "pretrain": "train the dense network adversarially",
    "prune": "learn which weights to keep",
    "finetune": "train the weights that are left",
    "evaluate": "attack the dense, pruned and fine-tuned networks",
    "export": "write the pruned network to a file and check it",
    "report": "make report.html from the recorded results",
}


class _Flags(BaseSettings, Recipe):
    """The recipe's fields as flags."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; a mistake ends it with one clear error and exit status 2, an interrupt with 130."""
    try:
        _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except HarpError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(_fail("stopped; the same command goes on from the last checkpoint", 130))


def _fail(message: str, code: int = 2) -> int:
    Console(stderr=True).print(f"harp: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _dispatch(arguments: list[str]) -> None:
    others = {
        "inspect": "what pruning would do to a network, before anything is done",
        "list": "what can be named in a recipe",
    }
    commands = {"run": "all stages in turn", **STAGES, **others}
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print("usage: harp COMMAND ...\n")
        for name, meaning in commands.items():
            print(f"  {name:10} {meaning}")
        print("\n`harp COMMAND --help` shows every setting with its meaning and default.")
    elif command == "--version":
        from harp import __version__

        print(f"harp {__version__}")
    elif command not in commands:
        raise HarpError(f"no command {command!r}; {choices(command, commands)}")
    elif command == "list":
        _list(arguments[1:])
    elif command == "inspect":
        inspect_model(arguments[1:])
    else:
        _run(command, arguments[1:])


def _run(command: str, arguments: list[str]) -> None:
    values, folder = _values(command, arguments)
    recipe = make_recipe(values)
    # Imported late: torch takes a second, and --help or a mistyped flag should not wait for it.
    from harp.pipeline import Workspace, run_stages
    from harp.pipeline.measure import table
    from harp.report import REPORT

    work = Workspace(recipe, folder)
    run_stages(work, tuple(STAGES) if command == "run" else (command,))
    if command in ("run", "evaluate"):
        work.display.console.print(table(work))
    work.display.say(f"results: {work.run.folder}")
    if (work.run.folder / REPORT).exists():
        work.display.say(f"report:  {work.run.folder / REPORT}")


def _values(command: str, arguments: list[str]) -> tuple[dict[str, Any], Path | None]:
    """The recipe's settings with the flags over them, not yet checked, and the folder asked for."""
    about = "all stages in turn" if command == "run" else STAGES[command]
    short = f"In this command --{command}.NAME may be written --NAME. " if command in Recipe.model_fields else ""
    parser = Parser(
        command,
        usage=f"harp {command} [RECIPE] [--folder DIR] [--SECTION.NAME VALUE ...]",
        description=f"{about[0].upper()}{about[1:]}. {short}Finished stages are skipped, begun ones resumed. "
        "Defaults are the paper's; a recipe's own settings come over them, and flags over both.",
    )
    parser.add_argument("recipe", nargs="?", default="digits", help="a recipe's name or YAML file (default: digits)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the run lives (default: runs/NAME-IDENTITY)")
    own, above = parser.read(_lengthened(command, arguments), _Flags)
    return _merged(read_recipe(find_recipe(own.recipe)), above), own.folder


def _lengthened(command: str, arguments: list[str]) -> list[str]:
    """`harp prune --keep 0.1` means `--prune.keep 0.1`: flags of the command's own section may drop its name."""
    section = {"evaluate": "evaluation"}.get(command, command)
    if section not in Recipe.model_fields:
        return arguments
    own = Recipe.model_fields[section].annotation
    names = {f"--{name}" for name in getattr(own, "model_fields", {}) if name not in Recipe.model_fields}
    return [f"--{section}.{a[2:]}" if a.split("=")[0] in names else a for a in arguments]


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _list(arguments: list[str]) -> None:
    from harp import ALLOCATIONS, ATTACKS, DATA, METHODS, MODELS, OBJECTIVES

    kinds: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "allocations": ALLOCATIONS,
        "objectives": OBJECTIVES,
        "attacks": ATTACKS,
        "models": MODELS,
        "data": DATA,
    }
    wanted = arguments or [*kinds, "recipes"]
    grid = Table("kind", "name", "what it is", box=None)
    for kind in wanted:
        if kind in kinds:
            rows = [(name, kinds[kind].summary(name)) for name in kinds[kind]]
        elif kind == "recipes":
            rows = [(path.stem, _first_comment(path)) for path in sorted(RECIPES.glob("*.yaml"))]
        else:
            raise HarpError(f"nothing to list as {kind!r}; {choices(kind, [*kinds, 'recipes'])}")
        for name, summary in rows:
            grid.add_row(kind, name, summary)
    Console().print(grid)


def _first_comment(path: Path) -> str:
    return path.read_text().split("\n")[0].removeprefix("#").strip()
