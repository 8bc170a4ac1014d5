"""The one exception users meet, and the sentence that names the nearest valid choice."""

from collections.abc import Iterable


class HarpError(Exception):
    """A mistake in what was asked for; its text alone tells what was wrong and what would be right."""


MANY = 30


def choices(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'harp'? there are: harp, hydra`: the nearest of `valid` where one is near, then all of them.

    Of more than thirty only the five nearest.
    """
    from difflib import get_close_matches

    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(names) > MANY:
        return f"{hint}there are {len(names)}, the nearest: {', '.join(get_close_matches(name, names, n=5, cutoff=0))}"
    return f"{hint}there are: {', '.join(names) or 'none'}"
