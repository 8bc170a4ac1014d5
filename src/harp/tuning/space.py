"""What a search may set: choices and ranges, checked against every row's recipe and method before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from harp.config import FinetuneSettings, PruneSettings, make_recipe, merged
from harp.config.values import SEED, scalar
from harp.errors import HarpError, choices
from harp.notation import fraction
from harp.pruners import METHODS, options_of

ALIKE = (
    *(f"prune.{name}" for name in ("method", "granularity", "keep", "of", "source", "epochs", "selection")),
    *(f"finetune.{name}" for name in ("source", "masks", "epochs", "selection")),
)
"""Settings that are one for all trials: what is compared, and how long, and by what."""

OPTION = "prune.options."


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones where both are; drawn evenly in their logarithm if `log`."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Values = Range | tuple[Any, ...]
Space = Mapping[str, Values]


def _read(item: Any) -> Values:
    if isinstance(item, Range):
        return item
    if isinstance(item, list | tuple):
        if not item or len(set(map(repr, item))) < len(item):
            raise ValueError("expected one value or more to choose from, each once")
        return tuple(map(scalar, item))
    if not isinstance(item, Mapping):
        raise ValueError("expected values to choose from, as [0.01, 0.1], or {low: 0.01, high: 0.1, log: true}")
    if strange := sorted(set(item) - {"low", "high", "log"}):
        raise ValueError(f"no {strange[0]!r} in a range; {choices(str(strange[0]), ('low', 'high', 'log'))}")
    low, high, log = _number(item.get("low")), _number(item.get("high")), item.get("log", False)
    if not isinstance(log, bool):
        raise ValueError("log: expected true or false")
    if not low < high or (log and low <= 0):
        raise ValueError(f"expected low below high{', and above 0 where log is true' if log else ''}")
    return Range(low, high, log)


def _number(value: Any) -> float:
    value = fraction(value) if isinstance(value, str) and "/" in value else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= SEED:
        raise ValueError("expected numbers as low and high")
    return value


Among = Annotated[Any, AfterValidator(_read)]
"""What a setting may be: a list of values, or a range as a mapping."""


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"finetune.lr": 0.1}` as sections of a recipe."""
    parts = (
        reduce(lambda inner, part: {part: inner}, reversed(name.split(".")), value) for name, value in settings.items()
    )
    return reduce(merged, parts, {})


def space_of(space: Space, row: str, values: Mapping[str, Any]) -> dict[str, Values]:
    """The part of `space` that the row with these recipe's `values` can use: options are those of its method.

    Raises `HarpError` for a value that the row's recipe or method refuses.
    """
    found = {name: among for name, among in space.items() if not name.startswith(OPTION) or _takes(values, name, among)}
    for name, among in found.items():
        for value in _ends(among):
            try:
                recipe = make_recipe(merged(values, nested({name: value})))
                options_of(recipe.prune.method, recipe.prune.options)
            except HarpError as error:
                raise HarpError(f"space: {name}: {value!r} in row {row}: {error}") from None
    return found


def check_space(space: Space, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises `HarpError` for a setting that is none, that is alike for all, or an option that no row's method has."""
    known = [name for name in _settings() if name not in ALIKE]
    options = [f"{OPTION}{name}" for values in rows for name in METHODS[_method(values)].takes.model_fields]
    for name, among in space.items():
        if name in ALIKE:
            raise HarpError(f"space: {name} is the same for all that are compared; set it in settings or in a row")
        if name.startswith(OPTION):
            if not any(_takes(values, name, among) for values in rows):
                raise HarpError(f"space: no row's method has {name}; {choices(name, {*options})}")
        elif name not in known:
            raise HarpError(f"space: no setting {name!r} that can be searched; {choices(name, known)}")


def _settings() -> Iterator[str]:
    for section, kind in (("prune", PruneSettings), ("finetune", FinetuneSettings)):
        for name, field in kind.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from (f"{section}.{name}.{own}" for own in inner.model_fields)
            elif name not in ("options", "lrs"):
                yield f"{section}.{name}"


def _method(values: Mapping[str, Any]) -> str:
    return str(values.get("prune", {}).get("method", PruneSettings.model_fields["method"].default))


def _ends(among: Values) -> Sequence[Any]:
    return (among.low, among.high) if isinstance(among, Range) else among


def _takes(values: Mapping[str, Any], name: str, among: Values) -> bool:
    """Whether the row's method has the option; one that has those of another method beside its own is asked."""
    method, own = _method(values), name.removeprefix(OPTION)
    takes = METHODS[method].takes
    if own in takes.model_fields or takes.model_config.get("extra") != "allow":
        return own in takes.model_fields
    try:
        options_of(method, {**values.get("prune", {}).get("options", {}), own: _ends(among)[0]})
    except HarpError:
        return False
    return True
