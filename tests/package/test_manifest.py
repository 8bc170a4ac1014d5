import json
import math

import pytest

from harp.errors import HarpError
from harp.package.manifest import Counts, Manifest, manifest_of, manifest_value
from harp.package.strict import dumps, loads
from harp.threats import Threat

FULL = Manifest(
    name="vgg16_bn",
    classes=("plane", "Straße", ""),
    low=-1.0,
    high=2.0,
    threat=Threat(2, 0.5, -1.0, 2.0),
    counts=Counts(15_302_848, 153_028, 153_028, 73_691),
    weights=("conv.weight", "head"),
    values="int8",
    evaluation={"clean": {"right": 871, "n": 1000, "interval": [0.849, 0.891]}},
    provenance={"harp": "0.1.0", "recipe": "3f2a", "seed": None},
    more={"licence": "MIT", "authors": ["a", {"b": 1.5}]},
)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_round_trip(norm):
    for manifest in (FULL, Manifest(), Manifest(threat=Threat(norm, 8 / 255))):
        assert manifest_of(loads(dumps(manifest_value(manifest)), "it")) == manifest


def test_keys_of_a_later_version_are_kept():
    value = manifest_value(FULL) | {"temperature": 1.0}
    found = manifest_of(value)
    assert found.more["temperature"] == 1.0
    assert manifest_value(found) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "expected name to be of kind str"),
        ({"classes": ["a", 1]}, "list of names"),
        ({"weights": "conv"}, "expected weights to be of kind list"),
        ({"weights": [["conv"]]}, "expected weights to be a list of names"),
        ({"pixels": [0.0]}, "pixels: expected 2 numbers"),
        ({"pixels": [0.0, "1"]}, "pixels: expected 2 numbers"),
        ({"pixels": [False, True]}, "pixels: expected 2 numbers"),
        ({"pixels": [0.0, 10**400]}, "pixels: expected numbers that a double holds"),
        ({"threat": {"norm": "inf", "eps": 10**400, "low": 0.0, "high": 1.0}}, "the threat: expected numbers that"),
        ({"threat": {}}, "the threat: expected 4 numbers"),
        ({"threat": {"norm": "2", "eps": 1.0, "low": 0.0, "high": 1.0}}, "the threat: expected 4 numbers"),
        ({"threat": {"norm": 3, "eps": 1.0, "low": 0.0, "high": 1.0}}, "the threat: norm: expected inf"),
        ({"threat": {"norm": "inf", "eps": -1.0, "low": 0.0, "high": 1.0}}, "the threat: eps"),
        ({"threat": {"norm": "inf", "eps": 1, "low": 1, "high": 0, "steps": 3}}, "unknown key 'steps'"),
        ({"counts": {"weights": 3}}, "the counts: 'budget' is missing"),
        ({"counts": {"weights": 3, "budget": -2, "nominal": 1, "effective": 1}}, "expected integers from 0"),
        ({"evaluation": []}, "expected evaluation to be of kind dict"),
    ],
)
def test_known_keys_hold_what_they_should(change, message):
    with pytest.raises(HarpError, match=message):
        manifest_of(manifest_value(FULL) | change)


@pytest.mark.parametrize("key", ["pixels", "values"])
def test_what_must_be_there(key):
    value = manifest_value(FULL)
    del value[key]
    with pytest.raises(HarpError, match=f"the manifest: '{key}' is missing"):
        manifest_of(value)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (Manifest(evaluation={"clean": math.nan}), "what JSON cannot"),
        (Manifest(provenance={"path": object()}), "what JSON cannot"),
        (Manifest(name="\ud800"), "what JSON cannot"),
        (Manifest(more={"classes": []}), "'classes', which has a place of its own"),
        (Manifest(evaluation={"a": json.loads("[" * 40 + "]" * 40)}), "nested deeper"),
    ],
)
def test_what_cannot_be_written(manifest, message):
    with pytest.raises(HarpError, match=message):
        manifest_value(manifest)
