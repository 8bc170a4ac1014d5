"""`harp completion SHELL`: a script by which a shell completes commands, flags and files, asking harp nothing."""

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harp.cli.commands import COMMANDS
from harp.errors import HarpError, choices
from harp.extras import need

if TYPE_CHECKING:
    from harp.cli.flags import Parser

GATHERING: ContextVar[bool] = ContextVar("gathering", default=False)
"""Whether a parser that is about to read arguments is wanted itself (`gathered`)."""
# Commands that mean one thing for a recipe and another for a network: each with words that lead to it.
FORMS = {"evaluate": ("digits", "net.safetensors"), "export": ("digits", "net.safetensors")}


class Gathered(Exception):  # noqa: N818, for it is no error
    """A command's parser with all its flags, and the arguments that it was about to read."""

    def __init__(self, parser: "Parser", arguments: Sequence[str]):
        super().__init__()
        self.parser, self.arguments = parser, arguments


def write_completion(arguments: list[str]) -> None:
    """Prints the script for the shell named; raises `HarpError` for another shell, and without shtab."""
    from harp.cli.flags import Parser

    parser = Parser(
        "completion",
        usage="harp completion SHELL",
        description="A script by which the shell completes commands, flags and files; made anew after an update. For "
        "bash: harp completion bash > ~/.local/share/bash-completion/completions/harp",
    )
    parser.add_argument("shell", help="bash, zsh, ...")
    shell = parser.parse_args(arguments).shell
    shtab = need("shtab", "completion", "completion in a shell")
    if shell not in shtab.SUPPORTED_SHELLS:
        raise HarpError(f"no shell {shell!r}; {choices(shell, shtab.SUPPORTED_SHELLS)}")
    print(shtab.complete(_whole(shtab.FILE), shell=shell))


def gathered(command: str, arguments: list[str]) -> Gathered | None:
    """What the command would read these arguments with; None for `list`, which reads them itself. Nothing is done."""
    from harp.cli import handler

    token = GATHERING.set(True)
    try:
        if command != "list":
            handler(command, arguments)(arguments)
    except Gathered as found:
        return found
    finally:
        GATHERING.reset(token)
    return None


def _whole(files: Any) -> ArgumentParser:
    root = ArgumentParser(prog="harp")
    below: _SubParsersAction[ArgumentParser] = root.add_subparsers()
    for name, meaning in COMMANDS.items():
        own = below.add_parser(name, help=meaning, add_help=False, conflict_handler="resolve")
        for word in FORMS.get(name, ("",)):
            found = gathered(name, [word] if word else [])
            for action in found.parser._actions if found else ():
                own._add_action(action)
        for action in own._actions:
            if action.type is Path or (not action.option_strings and not action.choices):
                action.complete = files  # type: ignore[attr-defined]
    return root
