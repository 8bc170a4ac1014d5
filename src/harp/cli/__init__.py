"""The command line: parses, then calls the pipeline."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harp.ambient import pinned
from harp.cli.bench import bench_network
from harp.cli.evaluate import evaluate_network, names_network
from harp.cli.export import export_network
from harp.cli.inspect import inspect_model
from harp.cli.recipes import STAGES, asked
from harp.cli.verify import verify_file
from harp.config import RECIPES, make_recipe
from harp.errors import HarpError, choices
from harp.registry import Registry


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; a mistake ends it with one clear error and exit status 2, an interrupt with 130."""
    try:
        _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except HarpError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:  # a disk that is full where temporary files lie, a path that may not be looked at
        named = f"{error.filename}: " if error.filename else ""
        sys.exit(_fail(f"{named}{(error.strerror or str(error)).lower()}"))
    except KeyboardInterrupt:
        sys.exit(_fail("stopped; the same command goes on from the last checkpoint", 130))


def _fail(message: str, code: int = 2) -> int:
    Console(stderr=True).print(f"harp: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    return code


@pinned()
def _dispatch(arguments: list[str]) -> None:
    others = {
        "inspect": "what pruning would do to a network, or what a package holds",
        "bench": "how fast and how large a network is, beside other runtimes",
        "verify": "whether a package is whole and what it says it is",
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
    elif command == "inspect" and arguments[1:] and arguments[1].endswith(".safetensors"):
        from harp.cli.package import inspect_package

        inspect_package(Path(arguments[1]), arguments[2:])
    elif command == "inspect":
        inspect_model(arguments[1:])
    elif command == "bench":
        bench_network(arguments[1:])
    elif command == "verify":
        verify_file(arguments[1:])
    elif command == "export" and names_network(arguments[1:]):
        export_network(arguments[1:])
    elif command == "evaluate" and names_network(arguments[1:]):
        evaluate_network(arguments[1:])
    else:
        _run(command, arguments[1:])


def _run(command: str, arguments: list[str]) -> None:
    wanted = asked(command, arguments)
    recipe = make_recipe(wanted.values)
    # Imported late: torch takes a second, and --help or a mistyped flag should not wait for it.
    from harp.pipeline import Workspace, run_stages
    from harp.pipeline.measure import table
    from harp.report import REPORT

    work = Workspace(recipe, wanted.folder, edited=wanted.edited)
    if wanted.chosen:
        work.display.say(f"{wanted.chosen}; {work.threat}")
    run_stages(work, tuple(STAGES) if command == "run" else (command,))
    if command in ("run", "evaluate"):
        work.display.console.print(table(work))
        for note in work.split.notes:
            work.display.say(f"note: {note}")
    work.display.say(f"results: {work.run.folder}")
    if (work.run.folder / REPORT).exists():
        work.display.say(f"report:  {work.run.folder / REPORT}")


def _list(arguments: list[str]) -> None:
    from harp import ALLOCATIONS, ATTACKS, DATA, DOUBTS, METHODS, MODELS, OBJECTIVES
    from harp.attacks import VERSIONS

    kinds: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "allocations": ALLOCATIONS,
        "objectives": OBJECTIVES,
        "attacks": ATTACKS,
        "doubts": DOUBTS,
        "models": MODELS,
        "data": DATA,
    }
    texts = {
        "versions": {name: f"AutoAttack, in this order: {', '.join(parts)}" for name, parts in VERSIONS.items()},
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


def _first_comment(path: Path) -> str:
    return path.read_text().split("\n")[0].removeprefix("#").strip()
