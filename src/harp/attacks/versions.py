"""AutoAttack's published versions: which attacks run in which order, and with which settings."""

import math
from typing import Any

from harp.errors import HarpError, choices
from harp.notation import order_of

Settings = dict[str, Any]
"""Keywords of an attack in `ATTACKS`: steps, restarts, targets, eot, queries."""

_FAB_T = {"steps": 100, "restarts": 1, "targets": 9}
_SQUARE = {"queries": 5000}

VERSIONS: dict[str, dict[str, Settings]] = {
    "standard": {
        "apgd-ce": {"steps": 100, "restarts": 1},
        "apgd-t": {"steps": 100, "restarts": 1, "targets": 9},
        "fab-t": _FAB_T,
        "square": _SQUARE,
    },
    "plus": {
        "apgd-ce": {"steps": 100, "restarts": 5},
        "apgd-dlr": {"steps": 100, "restarts": 5},
        "fab": {"steps": 100, "restarts": 5},
        "square": _SQUARE,
        "apgd-t": {"steps": 100, "restarts": 1, "targets": 9},
        "fab-t": _FAB_T,
    },
    "rand": {
        "apgd-ce": {"steps": 100, "restarts": 1, "eot": 20},
        "apgd-dlr": {"steps": 100, "restarts": 1, "eot": 20},
    },
}
"""Version -> its attacks in the order they run, for norms inf and 2 (Croce & Hein, ICML 2020, and their package)."""

# Croce & Hein, ICML 2021, section 4: under norm 1 more restarts and fewer targets, and radii of 3 and 2 eps first.
STANDARD_1: dict[str, Settings] = {
    "apgd-ce": {"steps": 100, "restarts": 5},
    "apgd-t": {"steps": 100, "restarts": 1, "targets": 5},
    "fab-t": _FAB_T,
    "square": _SQUARE,
}


def components(version: str, norm: float | str = math.inf) -> dict[str, Settings]:
    """The attacks of a version under a norm, in the order they run, each with its settings.

    Raises `HarpError` for an unknown version or norm, and for one that its authors publish for norms inf and 2 alone.
    """
    if version not in VERSIONS:
        raise HarpError(f"no version {version!r} of AutoAttack; {choices(version, VERSIONS)}")
    try:
        order = order_of(norm)
    except ValueError as error:
        raise HarpError(str(error)) from None
    if order != 1:
        return VERSIONS[version]
    if version != "standard":
        raise HarpError(f"AutoAttack {version!r} is published for norms inf and 2; for norm 1 there is: standard")
    return STANDARD_1
