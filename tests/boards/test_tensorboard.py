"""What lies in the event files of a stage that was killed and went on, read back by TensorBoard itself."""

import pytest

from harp.boards import About, fed
from harp.config import identity
from harp.runs import Metrics
from harp.stages import run_stages
from tests.boards.test_feed import killed
from tests.tiny import results, tiny, workspace

reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_event_files_hold_every_step_once(tmp_path):
    about, metrics = About(tmp_path, "mine", "2-prune", {}), Metrics(tmp_path / "metrics.jsonl")
    lines = [{"step": step, "loss": 1 / step, "validation": {"clean": 0.5, "robust": 0.25}} for step in (2, 4, 6)]
    killed(["tensorboard"], about, metrics, lines[:2])
    again = Metrics(metrics.path)
    again.rewind(2)
    with fed(["tensorboard"], about, again, print):
        for one in lines[1:]:
            again.add(one)
    found = reading.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "validation/clean", "validation/robust"]
    assert [(one.step, one.value) for one in found.Scalars("loss")] == [
        (2, 0.5),
        (4, 0.25),
        (6, pytest.approx(1 / 6)),
    ]


def test_a_run_is_the_same_with_and_without_and_may_change_its_mind(tmp_path):
    pretrain = {"epochs": 1}
    run_stages(workspace(tmp_path / "plain", pretrain=pretrain), ["pretrain"])
    run_stages(workspace(tmp_path / "shown", pretrain=pretrain, boards=["tensorboard"]), ["pretrain"])
    assert results(tmp_path / "plain") == results(tmp_path / "shown")
    assert list((tmp_path / "shown" / "1-pretrain" / "tensorboard").iterdir())
    assert identity(tiny(boards=["tensorboard"])) == identity(tiny())
    run_stages(workspace(tmp_path / "shown", pretrain=pretrain), ["pretrain"])  # begun with a board, and done
