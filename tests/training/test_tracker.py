import json

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.objectives import FreeAT, Natural
from harp.pruners import Moment, Pruner
from harp.runs import load_tree, save_tree
from harp.sparsity import find_sites
from harp.threats import Threat
from harp.training import Tracker, clear, sgd


def stage(folder, accuracies=(), model=None, **options):
    model = model or nn.Linear(2, 1)
    pruner = Pruner(find_sites(model))
    told = iter(accuracies)
    validate = (lambda model: {"clean": 1.0, "robust": next(told)}) if accuracies else None
    settings = {
        "objective": Natural(),
        "per_epoch": 2,
        "until": 6,
        "every": 2,
        "checkpoint": 2,
        "validate": validate,
        **options,
    }
    return Tracker(folder, model, pruner, sgd(model, pruner, lr=0.1), **settings)


def moment(step, loss=1.0):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    return Moment(step, optimizer, torch.tensor(loss))


def test_metrics_hold_the_mean_loss_since_the_last_record(tmp_path):
    callback = stage(tmp_path)
    for step, loss in enumerate([1.0, 3.0, 5.0, 7.0], start=1):
        callback(moment(step, loss))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["epoch"], r["loss"]) for r in records] == [(2, 1, 2), (4, 2, 6)]


def test_the_best_validated_state_is_selected(tmp_path):
    model = nn.Linear(2, 1)
    callback = stage(tmp_path, [0.5, 0.9, 0.7], model)
    for step in range(1, 7):
        nn.init.constant_(model.weight, step)
        callback(moment(step))
    assert callback.select() == 4
    assert model.weight.tolist() == [[4, 4]]


def test_without_validation_the_last_state_is_kept(tmp_path):
    callback = stage(tmp_path)
    callback(moment(6))
    assert callback.select() == 6
    assert not (tmp_path / "best.safetensors").exists()


def test_resuming_restores_everything_and_drops_later_records(tmp_path):
    model = nn.Linear(2, 1)
    first = stage(tmp_path, [0.5, 0.9], model, checkpoint=3)
    for step in range(1, 5):
        model(torch.ones(1, 2)).sum().backward()
        first.optimizer.step()
        if step == 3:
            expected = model.weight.detach().clone()
            momentum = first.optimizer.state[model.weight]["momentum_buffer"].clone()
            first(moment(step, 9.0))
        else:
            first(moment(step))
    second = stage(tmp_path, [0.9])
    assert second.resume() == 3
    assert torch.equal(second.model.weight, expected)
    assert torch.equal(second.optimizer.state[second.model.weight]["momentum_buffer"], momentum)
    assert [record["step"] for record in second.metrics] == [2]
    second(moment(4))
    assert [record["loss"] for record in second.metrics] == [1.0, 5.0]


def test_the_objectives_state_is_in_the_checkpoint(tmp_path):
    objective = FreeAT(Threat())
    first = stage(tmp_path, objective=objective)
    first(moment(2))
    objective.delta = torch.full([2, 1, 1, 1], 0.01)
    first(moment(4))
    again = FreeAT(Threat())
    assert stage(tmp_path, objective=again).resume() == 4
    assert again.delta is not None
    assert torch.equal(again.delta, objective.delta)


def test_a_state_that_is_not_finite_never_replaces_a_checkpoint(tmp_path):
    model = nn.Linear(2, 1)
    callback = stage(tmp_path, model=model)
    callback(moment(2))
    good = load_tree(tmp_path / "checkpoint.safetensors")["model"]["weight"]
    nn.init.constant_(model.weight, torch.inf)
    with pytest.raises(HarpError, match="weight became NaN or infinite"):
        callback(moment(4))
    assert torch.equal(load_tree(tmp_path / "checkpoint.safetensors")["model"]["weight"], good)


def test_a_whole_file_that_is_no_checkpoint_of_the_stage_is_refused(tmp_path):
    first = stage(tmp_path)
    first(moment(2))
    state = load_tree(tmp_path / "checkpoint.safetensors")
    for broken in ({"step": 3}, {**state, "model": None}, {**state, "optimizer": {"state": [], "param_groups": 1}}):
        save_tree(tmp_path / "checkpoint.safetensors", broken)
        with pytest.raises(HarpError, match=r"checkpoint.safetensors is no checkpoint of this stage: .*whole copy"):
            stage(tmp_path).resume()


def test_a_cleared_stage_has_nothing_to_resume_from(tmp_path):
    first = stage(tmp_path, [0.5])
    first(moment(2))
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert stage(tmp_path).resume() == 0


@pytest.mark.parametrize(
    ("told", "best"),
    [
        ([(0.5, 0.9), (0.5, 0.9), (0.4, 1.0)], 2),  # of equals the first
        ([(0.5, 0.8), (0.5, 0.9), (0.5, 0.85)], 4),  # clean accuracy decides between equally robust ones
    ],
)
def test_ties_of_the_best_epoch(tmp_path, told, best):
    accuracies = iter(told)

    def validate(model):
        robust, clean = next(accuracies)
        return {"clean": clean, "robust": robust}

    callback = stage(tmp_path, validate=validate)
    for step in range(1, 7):
        callback(moment(step))
    assert callback.select() == best


def test_a_resumed_momentum_lies_in_memory_as_its_weight_does(tmp_path):
    # A file knows no strides, and another layout may round sums otherwise.
    def channels_last():
        return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    first = stage(tmp_path, model=channels_last())
    first.model(torch.rand(2, 3, 5, 5)).sum().backward()
    first.optimizer.step()
    first(moment(1))
    first(moment(2))
    second = stage(tmp_path, model=channels_last())
    assert second.resume() == 2
    weight = second.model.weight
    buffer = second.optimizer.state[weight]["momentum_buffer"]
    assert buffer.stride() == weight.stride() != torch.empty(4, 3, 3, 3).stride()
    assert torch.equal(buffer, first.optimizer.state[first.model.weight]["momentum_buffer"])
