"""A run whose budget is of latency: met as the planner reckons it, recorded, and told in the report."""

import pytest

from harp.errors import HarpError
from harp.runs import read_json
from harp.stages import STAGES, run_stages
from tests.runtime.graphs import BUILT
from tests.stages.test_runner import CHANNELS
from tests.tiny import results, tiny, workspace

pytestmark = pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
# Much narrower, a call would cost more than its layers.
WIDER = {"model": {"width": 1}, "prune": {"method": "magnitude", "of": "latency", "keep": 0.5}}


def test_a_budget_of_latency_is_met_and_told(tmp_path):
    run_stages(workspace(tmp_path / "run", **WIDER), list(STAGES))
    shared = read_json(tmp_path / "run" / "2-prune" / "allocation.json")
    assert shared["of"] == "latency"
    assert abs(shared["budget"] - 0.5 * shared["whole"]) <= 1
    assert 0.99 * shared["budget"] < shared["price"] <= shared["budget"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "as its planner reckons them" in page
    assert "cycles" in page


def test_a_search_under_it_repeats_bit_for_bit(tmp_path):
    for name in ("one", "other"):
        run_stages(
            workspace(tmp_path / name, **{**WIDER, "prune": {"of": "latency", "keep": 0.5}}), ["pretrain", "prune"]
        )
    assert results(tmp_path / "one") == results(tmp_path / "other")


def test_other_units_have_no_latency():
    with pytest.raises(HarpError, match="latency is a budget of single weights"):
        tiny(prune={"of": "latency", "granularity": "filters"})


def test_after_channels_went_it_is_refused(tmp_path):
    recipe = {**WIDER, "stages": ["pretrain", {"prune": {"of": None, **CHANNELS}}, "prune", "finetune"]}
    with pytest.raises(HarpError, match="where channels go, take macs"):
        run_stages(workspace(tmp_path, **recipe), ["pretrain", "prune"])
