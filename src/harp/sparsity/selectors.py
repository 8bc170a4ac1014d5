"""Some of a model's weights, by name, glob, class or regular expression."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from harp.errors import HarpError, choices


@dataclass(eq=False)
class Candidate:
    """A weight that might be pruned: where it lies first, all its names, and the classes it lies in, bases included.

    `parameter` is None where the weight is computed from others.
    """

    parameter: nn.Parameter | None
    module: nn.Module
    names: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def paths(self) -> set[str]:
        """Every name, and the names of all modules around it."""
        return {name[:end] for name in self.names for end in [*(m.start() for m in re.finditer(r"\.", name)), None]}

    @property
    def frozen(self) -> bool:
        """Whether it is a parameter that does not train."""
        return self.parameter is not None and not self.parameter.requires_grad

    def named(self, selectors: Sequence[str]) -> bool:
        """Whether a selector is, in full, the name of the weight or of the module that holds it."""
        return any(selector in (name, name.rpartition(".")[0]) for name in self.names for selector in selectors)


def select(candidates: Sequence[Candidate], include: Sequence[str], exclude: Sequence[str]) -> list[Candidate]:
    """The candidates that a selector of `include` matches, all where there is none, less those of `exclude`.

    Raises `HarpError` for a selector that matches no candidate, with the nearest name, and where none is left.
    """
    wanted = _matched(candidates, include, "include") if include else set(candidates)
    unwanted = _matched(candidates, exclude, "exclude")
    chosen = [candidate for candidate in candidates if candidate in wanted and candidate not in unwanted]
    if not chosen:
        raise HarpError(
            f"include {list(include)} and exclude {list(exclude)} leave none of {len(candidates)} weights to prune"
        )
    return chosen


def _matched(candidates: Sequence[Candidate], selectors: Sequence[str], what: str) -> set[Candidate]:
    found: set[Candidate] = set()
    for selector in selectors:
        matches = _matcher(selector, what)
        hits = {candidate for candidate in candidates if matches(candidate)}
        if not hits:
            raise HarpError(
                f"{what}: {selector!r} matches no weight; {choices(selector, _valid(selector, candidates))}"
            )
        found |= hits
    return found


def _matcher(selector: str, what: str) -> Callable[[Candidate], bool]:
    kind, _, text = selector.partition(":")
    if kind == "class":
        return lambda candidate: text in candidate.kinds
    if kind != "re":
        return lambda candidate: any(fnmatchcase(path, selector) for path in candidate.paths())
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise HarpError(f"{what}: {selector!r} is no regular expression: {error}") from None
    return lambda candidate: any(pattern.search(name) for name in candidate.names)


def _valid(selector: str, candidates: Sequence[Candidate]) -> set[str]:
    if selector.startswith("class:"):
        return {f"class:{type(candidate.module).__name__}" for candidate in candidates}
    return {path for candidate in candidates for path in candidate.paths()}
