"""A rehearsed stage has the steps and the checkpoint of the real one, and leaves no file."""

import pytest

from harp.config import plan
from harp.probing.rehearsal import Rehearsal
from harp.runs import Run
from harp.stages import run_stages
from tests.tiny import workspace

SHORT = {"pretrain": {"epochs": 1}, "prune": {"epochs": 1}, "finetune": {"epochs": 1}}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The done-markers of a run's training stages."""
    folder = tmp_path_factory.mktemp("real")
    run_stages(workspace(folder, **SHORT), ["pretrain", "prune", "finetune"])
    return {stage.kind: Run(folder).done(stage.folder) for stage in plan()}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_counts_the_steps_that_are_made(real, tmp_path, number):
    work = workspace(tmp_path / "none", **SHORT)
    stage = plan()[number]
    rehearsal = Rehearsal(work, stage)
    assert rehearsal.until == real[stage.kind]["steps"]
    times = rehearsal.steps(3)
    assert len(times) == 2
    assert min(times) > 0
    assert len(rehearsal.steps(2)) == 1  # goes on from there
    assert (rehearsal.made, rehearsal.validations) == (5, 1)
    assert rehearsal.validate() > 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_its_bytes_are_those_of_the_checkpoint_and_the_best_state(tmp_path, average):
    work = workspace(tmp_path, **{**SHORT, "pretrain": {**SHORT["pretrain"], "average": average}})
    rehearsal = Rehearsal(work, plan()[0])
    rehearsal.steps(2)
    kept: list[int] = []
    keep = lambda folder: kept.extend(path.stat().st_size for path in folder.glob("*.safetensors"))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harp.stages.training.clear", keep)
        run_stages(work, ["pretrain"])
    model = (tmp_path / "1-pretrain" / "model.safetensors").stat().st_size
    # Headers of names and JSON are beside the tensors.
    assert rehearsal.bytes == pytest.approx(sum(kept) - model, rel=0.25)
    assert rehearsal.bytes < sum(kept) - model


@pytest.mark.parametrize("method", ["magnitude", "l1-filters"])
def test_what_cuts_at_once_makes_no_steps_and_what_is_left_is_trained(tmp_path, method):
    own = {"method": method, **({"granularity": "channels", "keep": 0.5} if method == "l1-filters" else {})}
    if method == "l1-filters":
        pytest.importorskip("torch_pruning")
    work = workspace(tmp_path / "none", **{**SHORT, "prune": {**SHORT["prune"], **own}})
    assert Rehearsal(work, plan()[1]).until == 0
    tuned = Rehearsal(work, plan()[2])
    assert len(tuned.steps(2)) == 1
    left = sum(int(value.count_nonzero()) for value in tuned.model.state_dict().values())
    assert left < sum(value.numel() for value in work.model().state_dict().values())
