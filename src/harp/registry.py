"""Names for things that recipes and the command line choose from: methods, objectives, attacks, models, data."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from harp.errors import HarpError, choices
from harp.own import OWN, is_own, load_own, runs_again

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from name to factory; looking up an unknown name raises `HarpError` with the nearest known one.

    Beside what is registered here a name may be an entry point of the group `harp.GROUP` of an installed package, or
    `path/to/file.py:name`, something in a file of the user's own.
    """

    def __init__(self, kind: str, group: str):
        self.kind, self.group = kind, group
        self._factories: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a factory under `name`; raises `ValueError` where the name is taken."""

        def enter(factory: T) -> T:
            if name in self._factories and not (runs_again(factory) and runs_again(self._factories[name])):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._factories[name] = factory
            return factory

        return enter

    def summary(self, name: str) -> str:
        """The first line of the docstring of what is registered under `name`."""
        return (self[name].__doc__ or "").strip().split("\n")[0]

    def __getitem__(self, name: str) -> T:
        if name in self._factories:
            return self._factories[name]
        if is_own(name):
            found: T = load_own(name, self.kind)
            return found
        if (entry := self._entries().get(name)) is not None:
            return self._load(entry)
        raise HarpError(f"no {self.kind} {name!r}; {choices(name, self)}; or one of your own as {OWN}")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._factories or is_own(name) or name in self._entries())

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._factories, *self._entries()}))

    def __len__(self) -> int:
        return len({*self._factories, *self._entries()})

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=f"harp.{self.group}")}

    def _load(self, entry: EntryPoint) -> T:
        try:
            found: T = entry.load()
        except Exception as error:  # whatever the import of a foreign package raises
            said = f"{type(error).__name__}: {error}"
            raise HarpError(f"{self.kind} {entry.name!r} of {entry.value} cannot be loaded: {said}") from error
        return found


def accepted(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that `factory` takes as keywords; all of them where it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in options.items() if name in names}
