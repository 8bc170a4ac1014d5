"""The command line: finds the command, and only then loads what it needs."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from shutil import get_terminal_size

from harp.cli.commands import COMMANDS, STAGES
from harp.cli.volume import taken, volume
from harp.errors import HarpError, choices
from harp.notation import fitted

MORE = """
`harp COMMAND --help` shows the settings that matter, --help-all every one, with meaning and default.
With any command: --quiet says nothing but errors and warnings; --verbose adds what is logged."""


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
    from rich.console import Console

    console, text = Console(stderr=True), f"harp: {message}"
    text = fitted(text, console.width) if console.is_terminal else text
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _dispatch(given: list[str]) -> None:
    arguments, flag = taken(given)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        width = get_terminal_size().columns
        print("usage: harp COMMAND ...\n")
        for name, meaning in COMMANDS.items():
            print(fitted(f"  {name:10} {meaning}", width, indent=13 * " "))
        print(fitted(MORE, width))
    elif command == "--version":
        from harp.cli.about import about

        print(*about(), sep="\n")
    elif command not in COMMANDS:
        raise HarpError(f"no command {command!r}; {choices(command, COMMANDS)}")
    else:
        with volume(flag):
            _call(command, arguments[1:])


_FUNCTIONS = {
    "list": "listing.list_names",
    "inspect": "inspect.inspect_model",
    "import": "importing.import_network",
    "arena": "arena.run_arena",
    "tune": "tune.run_tuning",
    "plan": "planning.plan_run",
    "watch": "watch.watch",
    "compare": "compare.compare_runs",
    "completion": "completion.write_completion",
    "bench": "bench.bench_network",
    "certify": "certify.certify_network",
    "push": "push.push",
    "verify": "verify.verify_file",
}


def handler(command: str, arguments: list[str]) -> Callable[[list[str]], None]:
    """The function for the command: each in a file of its own, loaded when it is called."""
    if command == "inspect" and arguments and arguments[0].endswith(".safetensors"):
        from harp.cli.package import inspect_package

        return inspect_package
    if command == "export" and _names_network(arguments):
        from harp.cli.export import export_network

        return export_network
    if command == "evaluate" and _names_network(arguments):
        from harp.cli.evaluate import evaluate_network

        return evaluate_network
    if command in _FUNCTIONS:
        file, _, name = _FUNCTIONS[command].partition(".")
        found: Callable[[list[str]], None] = getattr(import_module(f"harp.cli.{file}"), name)
        return found
    from harp.cli.stages import run_command

    return partial(run_command, command)


def _call(command: str, arguments: list[str]) -> None:
    call = handler(command, arguments)
    if {"-h", "--help"} & set(arguments):
        call(arguments)
        return
    # torch takes seconds, which no help should wait for.
    from harp.ambient import pinned
    from harp.ranks import joining, launched

    stage = command in ("run", *STAGES) and not (command in ("evaluate", "export") and _names_network(arguments))
    if launched() > 1 and not stage:
        raise HarpError(
            f"harp {command} runs in one process; start it without torchrun, which is for the stages of a recipe"
        )
    with joining(), pinned():
        call(arguments)


def _names_network(arguments: list[str]) -> bool:
    """Whether the command's first word is a network; else it is a recipe, and its run's networks are meant."""
    if not arguments or arguments[0].startswith("-"):
        return False
    from harp.networks.named import is_network

    return is_network(arguments[0])


__all__ = ["COMMANDS", "STAGES", "handler", "main"]
