from pathlib import Path
from typing import Any

import pytest

from harp.report import write_report
from harp.report.doubts import doubts
from harp.report.reading import read_record
from harp.runs import read_json, write_json


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
        ("2-prune/allocation.json", {"budget": 240}, "Layers keep 246 weights, the budget is 240."),
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
        ("2-prune", "The learned rates had not met the target density when the stage ended.")
    ]
