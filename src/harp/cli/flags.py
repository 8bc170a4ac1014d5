"""Settings as flags, for every command alike; a mistake in them is a `HarpError` that names the nearest flag."""

import argparse
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from harp.cli.completion import GATHERING, Gathered
from harp.errors import HarpError, choices

ALL, TRUST = "--help-all", "--trust"


def check_count(name: str, value: int, most: int) -> None:
    """Raises `HarpError` where `value` is no whole number from 1 to `most`, which is more than anybody means."""
    if value < 1:
        raise HarpError(f"{name} {value}: expected a whole number of at least 1")
    if value > most:
        raise HarpError(f"{name}: expected at most {most:,}, got {f'{value:,}' if value < 10**15 else 'far more'}")


class Parser(argparse.ArgumentParser):
    """The arguments of one command; pydantic-settings adds the flags of settings and writes their help.

    `--help` shows what is added here, and of the settings those in `first`: full names, or `section.` for all of one.
    Without `first`, and after `--help-all`, it shows every one.
    """

    def __init__(self, command: str, usage: str, description: str, first: Collection[str] = ()):
        super().__init__(prog=f"harp {command}", usage=usage, description=description, allow_abbrev=False)
        self.first, self.own = first, {"help"}
        if first:
            self.add_argument(ALL, action=_HelpAll, help="show every setting with its meaning and default, and exit")

    def add_trust(self) -> None:
        """`--trust`; what the parser gives for it is what `check_named` takes: the flag that would help, or None."""
        self.add_argument(
            TRUST,
            action="store_const",
            const=None,
            default=TRUST,
            help="run code that a run's folder names, and fetch what it names of a hub, though you never did so "
            "yourself",
        )

    def read(self, arguments: Sequence[str], settings: type[BaseSettings]) -> tuple[argparse.Namespace, dict[str, Any]]:
        """What was added to this parser before, and the settings that were given: nested, as text, not yet checked."""
        self.own = {action.dest for action in self._actions}
        source: CliSettingsSource[Any] = CliSettingsSource(
            settings, root_parser=self, cli_parse_args=False, cli_avoid_json=True, cli_hide_none_type=True
        )
        space, rest = self.parse_known_args(arguments)
        if rest:
            raise HarpError(f"no argument {rest[0]!r}; {self._nearest(rest[0])}")
        flags = {name: value for name, value in vars(space).items() if name not in self.own}
        try:
            return space, source(parsed_args=argparse.Namespace(**flags))()
        except SettingsError as error:
            raise HarpError(f"{error}: {error.__cause__}") from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if GATHERING.get():
            raise Gathered(self, args or ())
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        if not self.first:
            return super().format_help()
        hidden = [action for action in self._actions if not self._shown(action.dest)]
        for group in self._action_groups:
            group._group_actions = [action for action in group._group_actions if action not in hidden]
            if not group._group_actions:
                group.title = group.description = None
        return f"{super().format_help()}\n{len(hidden)} more settings: `{self.prog} {ALL}`\n"

    def _shown(self, name: str) -> bool:
        # `--data` itself takes a whole section as JSON, which nobody types.
        return name in self.own or name in self.first or (f"{name.partition('.')[0]}." in self.first and "." in name)

    def error(self, message: str) -> NoReturn:
        raise HarpError(f"{message}; `{self.prog} {ALL if self.first else '--help'}` lists all")

    def _nearest(self, flag: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        said = choices(flag.split("=")[0], known)
        return said.split("there are")[0].strip() or f"`{self.prog} {ALL if self.first else '--help'}` lists all"


class _HelpAll(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help, default=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, Parser)
        parser.first = ()
        parser.print_help()
        parser.exit()
