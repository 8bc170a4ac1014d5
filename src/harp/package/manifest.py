"""What a package says about its network beside the network itself; all of it claims, none of it needed to run it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harp.errors import HarpError
from harp.package.strict import DEEPEST, deeper, dumps, record, short, whole
from harp.threats import Threat


@dataclass(frozen=True)
class Counts:
    """Weights of the dense network, how many were promised and how many the masks keep, and what of those has effect.

    `effective` are non-zeros on some path from input to output: what is left of `nominal` after exact shrinking.
    """

    weights: int
    budget: int
    nominal: int
    effective: int


@dataclass(frozen=True)
class Manifest:
    """The network's name, its classes in the order of the logits, the range of its pixels, and where it comes from.

    `weights` are the names of the tensors that count as weights, None in files that do not say.
    `evaluation` and `provenance` are JSON objects; whoever packs a network puts there its results with their n and
    interval, and versions, the recipe's identity and the source's SHA-256. `values` is the precision of the weights,
    set by `write`. `more` holds the keys this version does not know: they are kept when the package is written again.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    threat: Threat | None = None
    counts: Counts | None = None
    weights: tuple[str, ...] | None = None
    values: str = "fp32"
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


_KINDS = {
    "name": str,
    "classes": list,
    "pixels": list,
    "threat": dict,
    "counts": dict,
    "weights": list,
    "values": str,
    "evaluation": dict,
    "provenance": dict,
}
_COUNTS = {"weights": int, "budget": int, "nominal": int, "effective": int}


def manifest_value(manifest: Manifest) -> dict[str, Any]:
    """The manifest as an object of JSON values, absent parts left out; `HarpError` where JSON cannot hold a part."""
    threat = manifest.threat
    value = {
        "name": manifest.name,
        "classes": list(manifest.classes),
        "pixels": [float(manifest.low), float(manifest.high)],
        "threat": threat and _threat_value(threat),
        "counts": manifest.counts and vars(manifest.counts),
        "weights": None if manifest.weights is None else list(manifest.weights),
        "values": manifest.values,
        "evaluation": dict(manifest.evaluation),
        "provenance": dict(manifest.provenance),
    }
    if taken := sorted(set(value) & set(manifest.more)):
        raise HarpError(f"the manifest's `more` may not hold {taken[0]!r}, which has a place of its own")
    whole_value = {key: part for key, part in (value | dict(manifest.more)).items() if part is not None}
    try:
        dumps(whole_value)
    except (ValueError, TypeError) as error:
        raise HarpError(f"the manifest holds what JSON cannot: {error}") from None
    if deeper(whole_value, DEEPEST - 1):
        raise HarpError(f"the manifest is nested deeper than {DEEPEST - 1} levels")
    return whole_value


def manifest_of(value: Any) -> Manifest:
    """The manifest that `manifest_value` made; raises `HarpError` where a known key holds something else."""
    known = {key: part for key, part in value.items() if key in _KINDS} if type(value) is dict else value
    found = record(known, "the manifest", {"pixels": list, "values": str}, _KINDS)
    classes, weights = (_names(found, key) for key in ("classes", "weights"))
    low, high = _numbers(found["pixels"], "pixels", 2)
    threat, counts = found.get("threat"), found.get("counts")
    return Manifest(
        name=found.get("name", ""),
        classes=classes or (),
        low=low,
        high=high,
        threat=None if threat is None else _threat(threat),
        counts=None if counts is None else _counts(counts),
        weights=weights,
        values=found["values"],
        evaluation=found.get("evaluation", {}),
        provenance=found.get("provenance", {}),
        more={key: part for key, part in value.items() if key not in _KINDS},
    )


def _names(found: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    if any(type(name) is not str for name in found.get(key, ())):
        raise HarpError(f"the manifest: expected {key} to be a list of names")
    return tuple(found[key]) if key in found else None


def _threat_value(threat: Threat) -> dict[str, Any]:
    value = {key: float(part) for key, part in vars(threat).items()}
    return value | {"norm": "inf"} if threat.norm == math.inf else value


def _threat(value: Any) -> Threat:
    found = record(value, "the threat", {}, {key: type(value.get(key)) for key in ("norm", "eps", "low", "high")})
    norm = [math.inf] if found.get("norm") == "inf" else [found.get("norm")]
    try:
        return Threat(*_numbers([*norm, *(found.get(key) for key in ("eps", "low", "high"))], "the threat", 4))
    except ValueError as error:
        raise HarpError(f"the threat: {short(error)}") from None


def _counts(value: Any) -> Counts:
    found = record(value, "the counts", _COUNTS)
    return Counts(*whole((found[key] for key in _COUNTS), "the counts", 0, 2**63 - 1))


def _numbers(values: list[Any], what: str, count: int) -> list[float]:
    if len(values) != count or any(type(value) not in (int, float) for value in values):
        raise HarpError(f"{what}: expected {count} numbers, found {short(values)}")
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise HarpError(f"{what}: expected numbers that a double holds, found {short(values)}") from None
