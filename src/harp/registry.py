"""Names for things that recipes and the command line choose from: methods, objectives, attacks, models, data."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from harp.errors import HarpError, choices

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from name to factory; looking up an unknown name raises `HarpError` with the nearest known one."""

    def __init__(self, kind: str):
        self.kind = kind
        self._factories: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a factory under `name`; raises `ValueError` where the name is taken."""
        if name in self._factories:
            raise ValueError(f"{self.kind} {name!r} is registered twice")

        def enter(factory: T) -> T:
            self._factories[name] = factory
            return factory

        return enter

    def summary(self, name: str) -> str:
        """The first line of the docstring of what is registered under `name`."""
        return (self[name].__doc__ or "").strip().split("\n")[0]

    def __getitem__(self, name: str) -> T:
        try:
            return self._factories[name]
        except KeyError:
            raise HarpError(f"no {self.kind} {name!r}; {choices(name, self._factories)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._factories))

    def __len__(self) -> int:
        return len(self._factories)


def accepted(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that `factory` takes as keywords; all of them where it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in options.items() if name in names}
