"""Settings as flags, for every command alike; a mistake in them is a `HarpError` that names the nearest flag."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from harp.errors import HarpError, choices


class Parser(argparse.ArgumentParser):
    """The arguments of one command; pydantic-settings adds the flags of settings and writes their help."""

    def __init__(self, command: str, usage: str, description: str):
        super().__init__(prog=f"harp {command}", usage=usage, description=description, allow_abbrev=False)

    def read(self, arguments: Sequence[str], settings: type[BaseSettings]) -> tuple[argparse.Namespace, dict[str, Any]]:
        """What was added to this parser before, and the settings that were given: nested, as text, not yet checked."""
        own = {action.dest for action in self._actions}
        source: CliSettingsSource[Any] = CliSettingsSource(
            settings, root_parser=self, cli_parse_args=False, cli_avoid_json=True, cli_hide_none_type=True
        )
        space, rest = self.parse_known_args(arguments)
        if rest:
            raise HarpError(f"no argument {rest[0]!r}; {self._nearest(rest[0])}")
        flags = {name: value for name, value in vars(space).items() if name not in own}
        try:
            return space, source(parsed_args=argparse.Namespace(**flags))()
        except SettingsError as error:
            raise HarpError(f"{error}: {error.__cause__}") from None

    def error(self, message: str) -> NoReturn:
        raise HarpError(f"{message}; `{self.prog} --help` lists all")

    def _nearest(self, flag: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        said = choices(flag.split("=")[0], known)
        return said.split("there are")[0].strip() or f"`{self.prog} --help` lists all"
