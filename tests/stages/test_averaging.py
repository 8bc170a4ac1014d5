"""Averaged weights and renewed statistics in a run: beside training, which they leave alone, and in what is kept."""

import json

import pytest
import torch
from safetensors.torch import load_file

from harp.pruners import METHODS
from harp.stages import run_stages
from tests.stages.test_runner import CHANNELS, OF_CHANNELS, OF_WEIGHTS
from tests.tiny import workspace

STAGES = ["pretrain", "prune", "finetune"]
QUICK: list[tuple[str, dict[str, object]]] = [("harp", {}), ("flyingbird", {}), ("hydra", CHANNELS)]
ALL = [
    *((method, {}) for method in METHODS if method not in OF_CHANNELS),
    *((method, CHANNELS) for method in METHODS if method not in OF_WEIGHTS),
]


def records(folder, stage):
    return [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    run_stages(workspace(folder), ["pretrain"])
    return str(folder / "1-pretrain" / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "more"), [*QUICK, *(pytest.param(*row, marks=pytest.mark.slow) for row in ALL if row not in QUICK)]
)
def test_a_search_goes_on_as_if_nobody_averaged(tmp_path, dense, method, more):
    told = {}
    for average in (0.0, 0.5):
        settings = {"method": method, "average": average, "source": dense, **more}
        run_stages(workspace(tmp_path / str(average), prune=settings), ["prune"])
        path = tmp_path / str(average) / "2-prune"
        told[average] = records(path.parent, path.name) if (path / "metrics.jsonl").exists() else []
    for line in told[0.5]:
        assert line.pop("averaged")["clean"] >= 0
    assert told[0.5] == told[0.0]


def test_with_selection_last_the_average_is_kept(tmp_path):
    weights, settings = {}, {"selection": "last", "epochs": 2}
    for average in (0.0, 0.5):
        run_stages(workspace(tmp_path / str(average), pretrain={**settings, "average": average}), ["pretrain"])
        weights[average] = load_file(tmp_path / str(average) / "1-pretrain" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights[0.5].values())
    assert any(not torch.equal(value, weights[0.0][name]) for name, value in weights[0.5].items())
    done = json.loads((tmp_path / "0.5" / "1-pretrain" / "done.json").read_text())
    assert done["averaged"] is True


def test_the_better_of_average_and_weights_is_kept(tmp_path):
    run_stages(workspace(tmp_path, pretrain={"average": 0.9, "epochs": 4}), ["pretrain"])
    lines = records(tmp_path, "1-pretrain")
    done = json.loads((tmp_path / "1-pretrain" / "done.json").read_text())
    measured = [
        ((line[part]["robust"], line[part]["clean"]), line["step"], part)
        for line in lines
        for part in ("validation", "averaged")
    ]
    best = max(value for value, _, _ in measured)
    step, part = next((step, part) for value, step, part in measured if value == best)
    assert (done["selected_step"], done["averaged"]) == (step, part == "averaged")


def test_renewed_statistics_are_what_is_validated_and_kept(tmp_path):
    for count in (0, 2):
        settings = {"renew_norms": count, "epochs": 1, "selection": "last"}
        run_stages(workspace(tmp_path / str(count), pretrain=settings), ["pretrain"])
    plain, anew = (load_file(tmp_path / str(count) / "1-pretrain" / "model.safetensors") for count in (0, 2))
    means = [name for name in plain if name.endswith("running_mean")]
    assert means
    for name, value in plain.items():
        statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(anew[name], value) != statistic
    assert {anew[name].item() for name in plain if name.endswith("num_batches_tracked")} == {2}
