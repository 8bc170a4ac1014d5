from typing import Any

import pytest

from harp.report.sentences import objective, precision


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
