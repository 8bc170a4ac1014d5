from dataclasses import replace

import pytest
import torch

from harp.errors import HarpError
from harp.evaluation import Doubt, Evaluation, Outcome

FLAGS = {"clean": torch.tensor([True, True, True, False]), "pgd": torch.tensor([True, False, True, False])}
FOUND = Evaluation(
    {**FLAGS, "worst": FLAGS["pgd"]},
    torch.tensor([0, 0, 1, 1]),
    torch.tensor([torch.inf, 0.1, torch.inf, 0.0]),
    ("", "pgd", "", "clean"),
    ("pgd: slow",),
    False,
)
FLAT = Doubt("zero-gradients", "Flat.", 1.0)


def test_without_doubts_the_number_is_quoted():
    values = Outcome(FOUND).values()
    assert values["robust"] == 0.5
    assert values["broken_by"] == {"clean": 1, "pgd": 1}
    assert values["measures"]["clean"]["accuracy"] == 0.75
    assert "balanced" not in values["measures"]["worst"]
    assert "doubts" not in values["measures"]["worst"]
    assert values["notes"] == ["pgd: slow"]


def test_classes_of_unequal_size_are_also_counted_alike_under_the_same_doubts():
    few = replace(FOUND, labels=torch.tensor([0, 0, 0, 1]))
    flags = FOUND.flags["worst"]
    assert flags.tolist() == [True, False, True, False]
    measures = Outcome(few).values()["measures"]
    assert measures["worst"]["balanced"]["accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    doubted = Outcome(few, (FLAT,)).values()["measures"]
    assert doubted["worst"]["balanced"]["doubts"] == ["zero-gradients"]
    assert "doubts" not in doubted["clean"]["balanced"]


def test_an_open_doubt_takes_the_numbers_place_until_it_is_acknowledged():
    doubted = Outcome(FOUND, (FLAT, Doubt("randomness", "Moves.", 0.1)), ("randomness",))
    assert doubted.robust is None
    assert doubted.open == (FLAT,)
    values = doubted.values()
    assert values["robust"] is None
    assert values["measures"]["worst"]["doubts"] == ["zero-gradients"]
    assert [doubt["acknowledged"] for doubt in values["doubts"]] == [False, True]
    looked_into = Outcome(FOUND, (FLAT,), ("zero-gradients",))
    assert looked_into.robust == 0.5
    assert looked_into.values()["doubts"][0]["acknowledged"]


def test_nobody_can_doubt_that_nothing_held():
    none = replace(FOUND, flags={**FLAGS, "worst": torch.zeros(4, dtype=torch.bool)})
    doubted = Outcome(none, (FLAT,))
    assert doubted.robust == 0.0
    assert doubted.open == (FLAT,)
    assert "doubts" not in doubted.values()["measures"]["worst"]
    assert doubted.values()["doubts"]


def test_a_share_is_the_quotient_of_two_counts():
    flags = {name: torch.tensor([True] * 3 + [False] * 7) for name in ("clean", "worst")}
    found = replace(FOUND, flags=flags, labels=torch.zeros(10, dtype=torch.int64))
    assert Outcome(found).robust == 0.3  # not float32's 0.30000001192


def test_classes_are_counted_and_what_nobody_examined_is_told():
    values = Outcome(FOUND, examined=0).values()
    assert values["classes"] == {
        "0": {"n": 2, "clean": 2, "pgd": 1, "worst": 1},
        "1": {"n": 2, "clean": 1, "pgd": 1, "worst": 1},
    }
    assert values["examined"] == values["measures"]["worst"]["examined"] == 0
    assert "examined" not in Outcome(FOUND, examined=4).values()["measures"]["worst"]
    assert Outcome(FOUND).values()["examined"] is None


def test_what_is_no_doubt_cannot_be_acknowledged():
    with pytest.raises(HarpError, match="did you mean 'randomness'"):
        Outcome(FOUND, (), ("random",))
