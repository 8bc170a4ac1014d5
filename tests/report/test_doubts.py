from pathlib import Path
from typing import Any

import pytest

from harp.report import write_report
from harp.report.doubts import doubts
from harp.report.reading import read_record
from harp.runs import read_json, write_json
from tests.report.conftest import change


def test_a_consistent_run_has_none(folder: Path) -> None:
    assert doubts(read_record(folder)) == []
    assert "Before you trust" not in write_report(folder).read_text()


def test_every_stages_notes_are_on_both_pages(folder: Path) -> None:
    stages = ("1-pretrain", "2-prune", "3-finetune", "evaluation")
    for stage in stages:
        marker = folder / stage / "done.json"
        write_json(marker, {**read_json(marker), "notes": ["the loss rose & rose"]})
    assert doubts(read_record(folder)) == [(stage, "the loss rose & rose") for stage in stages]
    html = write_report(folder)
    for page in (html, html.with_suffix(".md")):
        assert page.read_text().count("the loss rose &amp; rose") == 4


@pytest.mark.parametrize(
    ("file", "values", "expected"),
    [
        ("2-prune/allocation.json", {"budget": 240}, "keep 246 weights at a price of 246, the budget is 240 exactly."),
        ("2-prune/allocation.json", {"budget": 250}, "keep 246 weights at a price of 246, the budget is 250 exactly."),
        ("2-prune/allocation.json", {"total": 12000}, "has 246 of 12,304 weights left, the allocation 246 of 12,000."),
        ("export/manifest.json", {"kept": 250}, "The file keeps 250 weights, the allocation 246."),
        ("export/manifest.json", {"logits_equal": False}, "logits were not equal"),
    ],
)
def test_records_that_contradict_are_told(folder: Path, file: str, values: dict[str, Any], expected: str) -> None:
    write_json(folder / file, {**read_json(folder / file), **values})
    (found,) = doubts(read_record(folder))
    assert expected in found[1]


def test_rates_that_missed_their_target_are_told(folder: Path) -> None:
    metrics = folder / "2-prune/metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"target_met": true', '"target_met": false'))
    assert doubts(read_record(folder)) == [
        ("2-prune", "The learned rates had not met the budget when the stage ended.")
    ]


def test_channels_may_cost_less_than_their_budget_and_never_more(channels: Path) -> None:
    assert doubts(read_record(channels)) == []
    change(channels / "2-prune/allocation.json", budget=449_869)
    assert doubts(read_record(channels)) == [
        ("2-prune", "What is kept costs 449,870 multiply-accumulates, the budget is 449,869.")
    ]


def test_weights_may_cost_fewer_macs_than_their_budget(folder: Path) -> None:
    price = {"of": "macs", "keep": 0.08, "budget": 72_000, "price": 71_000, "total": 900_000}
    change(folder / "2-prune/allocation.json", **price)
    assert doubts(read_record(folder)) == []
    change(folder / "2-prune/allocation.json", price=71_001)
    assert doubts(read_record(folder)) == [
        (
            "evaluation",
            "The pruned network has 71,000 of 900,000 multiply-accumulates left, the allocation 71,001 of 900,000.",
        )
    ]


def test_a_smaller_networks_file_is_compared_with_the_evaluated_one(channels: Path) -> None:
    change(channels / "export/manifest.json", kept=5_000)
    assert doubts(read_record(channels)) == [("export", "The file keeps 5,000 weights, the evaluated model 5,021.")]
    # The recipe excludes weights that the file has: they count differently, which is no contradiction.
    change(channels / "export/manifest.json", total=13_000)
    assert doubts(read_record(channels)) == []
