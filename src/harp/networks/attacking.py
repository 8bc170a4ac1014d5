"""The attacks that an evaluation's settings name, each with its settings, by whoever runs it."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from harp.attacks import ATTACKS, VERSIONS, Attack, Cascade, Official, Quick, autoattack, components
from harp.config import EvaluationSettings
from harp.errors import HarpError, choices
from harp.evaluation import Transferred
from harp.networks.sparse import sparse_copies
from harp.own import is_own, label_of
from harp.registry import accepted

TRANSFER = "transfer-"
# Beside AutoAttack's, the attacks with settings of their authors.
PUBLISHED = ("apgd-pma", "fmn", "malt")


def attacks_of(settings: EvaluationSettings, norm: float, seed: int) -> Mapping[str, Attack]:
    """The attacks that the settings name; a version of AutoAttack is a `Cascade`.

    Raises `HarpError` for an unknown name, for one of AutoAttack's versions beside anything else, and for an attack
    that the engine asked for has not.
    """
    names = settings.attacks
    version = next((name for name in names if name in VERSIONS), None)
    if version is None:
        if len({label_of(name) for name in names}) < len(names):
            raise HarpError(f"attacks: two of {', '.join(names)} have one name; expected each once")
        return {label_of(name): _single(name, settings, seed) for name in names}
    if len(names) > 1:
        raise HarpError(f"attacks: {version} is a whole evaluation; expected it alone, or attacks by name")
    if version == "rand" and settings.eot > 1:
        raise HarpError("attacks: rand takes means of 20 answers itself; expected standard with eot, or rand without")
    engine = settings.engine or "official"
    parts = autoattack(version, norm=norm, engine=engine, seed=seed, batch=_under_way(settings))
    if engine == "official":
        return parts
    return Cascade({name: Quick(part, settings.bf16, sparse_copies) for name, part in parts.items()})


def _single(name: str, settings: EvaluationSettings, seed: int) -> Attack:
    """The attack `name`; those of AutoAttack have their published settings, whoever runs them, as `PUBLISHED` have."""
    published = {part: version for version in reversed(VERSIONS) for part in components(version)}
    if settings.engine == "official":
        if name not in published:
            raise HarpError(f"the official engine has no attack {name!r}; {choices(name, published)}")
        return Official(name, published[name], seed, _under_way(settings))
    own = {"steps": settings.steps, "restarts": settings.restarts, "step": settings.step}
    options = components(published[name])[name] if name in published else {} if name in PUBLISHED else own
    made = _made(name, {**options, "batch": _under_way(settings)})
    # One of the user's own may look inside the network, for layers that a copy does not have.
    return made if is_own(name) else Quick(made, settings.bf16, sparse_copies)


def _made(name: str, options: Mapping[str, Any]) -> Attack:
    """What the factory `name` makes, given those of `options` that it takes."""
    factory = ATTACKS[name]
    expected = "expected a class or function that makes an attack: called without arguments, or with those settings "
    expected += "it takes (steps, restarts, step, batch), it gives something to call with (model, x, y, threat, noise)"
    try:
        made = factory(**accepted(factory, options))
    except HarpError:
        raise
    except Exception as error:  # whatever a foreign factory raises
        raise HarpError(f"attack {name!r} cannot be made ({type(error).__name__}: {error}); {expected}") from error
    if not callable(made):
        raise HarpError(f"attack {name!r} makes {made!r}; {expected}")
    return made


def _under_way(settings: EvaluationSettings) -> int:
    # Half a batch at once, so that places which fall free are refilled from the other half.
    return -(-settings.batch_size // 2)


def with_transfers(
    attacks: Mapping[str, Attack], others: Mapping[str, nn.Module], settings: EvaluationSettings
) -> Mapping[str, Attack]:
    """`attacks`, and after them one for each of the `others`, by a word for it: images made against that network.

    The order and who is tried are as without. Raises `HarpError` where an attack has that name.
    """
    if not others:
        return attacks
    made: dict[str, Attack] = {
        f"{TRANSFER}{word}": Transferred(other, settings.steps, word, settings.batch_size)
        for word, other in others.items()
    }
    if taken := sorted(made.keys() & attacks.keys()):
        raise HarpError(f"an attack is called {taken[0]} already; expected another name for it")
    return Cascade({**attacks, **made}) if isinstance(attacks, Cascade) else {**attacks, **made}


def gradient_free(attacks: Mapping[str, Attack]) -> Collection[str]:
    """The names of those that use no gradient of the network: Square, and what says so by `gradient_free`."""
    return {name for name, attack in attacks.items() if name == "square" or getattr(attack, "gradient_free", False)}
