"""The one exception users meet, and the sentence that names the nearest valid choice."""

from collections.abc import Iterable
from difflib import get_close_matches


class HarpError(Exception):
    """A mistake in what was asked for; its text alone tells what was wrong and what would be right."""


def choices(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'harp'? there are: harp, hydra`: the nearest of `valid` where one is near, then all of them."""
    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}there are: {', '.join(names) or 'none'}"
