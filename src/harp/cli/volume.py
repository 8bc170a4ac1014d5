"""How much a command says: `--quiet`, which leaves errors and warnings, or `--verbose`, which adds what is logged."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from harp.errors import HarpError

QUIET, VERBOSE = "--quiet", "--verbose"


def taken(arguments: Sequence[str]) -> tuple[list[str], str]:
    """The arguments without the two flags, and the one that was given, or "".

    Raises `HarpError` where both were.
    """
    given = sorted({QUIET, VERBOSE} & set(arguments))
    if len(given) > 1:
        raise HarpError(f"{QUIET} and {VERBOSE} are both given; expected one of them")
    return [word for word in arguments if word not in given], "".join(given)


@contextmanager
def volume(flag: str) -> Iterator[None]:
    """Inside, a command says as much as the flag asks for; "" is as ever."""
    if flag == QUIET:
        from harp.pipeline.display import MUTED

        token = MUTED.set(True)
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                yield
        finally:
            MUTED.reset(token)
        return
    if flag == VERBOSE:
        with _logged():
            yield
        return
    yield


@contextmanager
def _logged() -> Iterator[None]:
    """Inside, what is logged under `harp` goes to standard error, with the time; the display's own lines do not."""
    log, told = logging.getLogger("harp"), logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    # What the display prints is there to be read already.
    told.addFilter(lambda record: record.name != "harp.display")
    before = log.level
    log.addHandler(told)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(told)
        log.setLevel(before)
