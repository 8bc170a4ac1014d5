"""The NEON build gives what PyTorch gives; `python -m tests.runtime.aarch64 3000` asks it of so many graphs."""

from pathlib import Path

import pytest

from tests.runtime import aarch64


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(aarch64.missing()), reason=aarch64.missing())
def test_the_wheel_for_aarch64_runs_random_graphs(tmp_path: Path):
    examples = tmp_path / "examples"
    examples.mkdir()
    aarch64.prepare(tmp_path)
    drawn = aarch64.draw(examples, 60)
    assert aarch64.answer(tmp_path, examples) == "the sparse engine, base"
    assert aarch64.compare(examples, drawn) == []
