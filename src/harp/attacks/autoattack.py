"""AutoAttack (Croce & Hein, ICML 2020): its attacks, run by one engine or the other."""

from typing import Literal

from harp.attacks.base import Cascade
from harp.attacks.official import Official
from harp.attacks.pgd import ATTACKS
from harp.attacks.versions import components
from harp.errors import HarpError, choices

ENGINES = ("harp", "official")


def autoattack(
    version: str = "standard",
    *,
    norm: float | str,
    engine: Literal["harp", "official"] = "harp",
    seed: int = 0,
    batch: int | None = None,
) -> Cascade:
    """The attacks of a version under a norm, by name, in the order they run; each is for points the others left right.

    `engine` "official" is the authors' own package, which is told `seed`; "harp" is our own attacks, whose random
    numbers come from the noise each call brings. At most `batch` points (None: all) are under way at once. Raises
    `HarpError` for a version, norm or engine there is not.
    """
    if engine not in ENGINES:
        raise HarpError(f"no engine {engine!r} of AutoAttack; {choices(engine, ENGINES)}")
    parts = components(version, norm)
    if engine == "official":
        return Cascade({name: Official(name, version, seed, batch) for name in parts})
    return Cascade({name: ATTACKS[name](**settings, batch=batch) for name, settings in parts.items()})
