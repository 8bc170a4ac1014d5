from pathlib import Path
from typing import Any

import pytest

from harp.report.reading import read_record
from harp.report.sentences import objective, package, precision
from tests.report.conftest import change


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "float32"),
        ({"bf16": "attack"}, "bfloat16 in the attack"),
        (
            {"bf16": "both", "channels_last": True, "compile": True},
            "bfloat16 in attack and step, channels last, compiled",
        ),
    ],
)
def test_precision(settings: dict[str, Any], text: str) -> None:
    assert precision({"bf16": "none", "channels_last": False, "compile": False, **settings}) == text


def test_objective() -> None:
    assert objective({"objective": "free-at", "awp": 0.0}) == "free-at"
    assert objective({"objective": "trades", "awp": 0.005}) == "trades with AWP 0.005"


def test_package(folder: Path) -> None:
    assert package(read_record(folder)) == "none"
    made = {"file": "p.safetensors", "bytes": 1234, "values": "int8", "judged": None}
    change(folder / "export/manifest.json", package=made)
    assert package(read_record(folder)) == "p.safetensors, 1.23 kB (1,234 bytes), values in int8"
    for different, text in ((0, "; none of 1,500 verdicts on"), (2, "; 2 of 1,500 verdicts on")):
        change(folder / "export/manifest.json", package={**made, "judged": {"compared": 1500, "different": different}})
        assert text in package(read_record(folder))
