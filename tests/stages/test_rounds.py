"""Runs whose stages are another list than the usual one, or differ in attack and learning rates."""

import numpy
import pytest
from safetensors.numpy import load_file

from harp.errors import HarpError
from harp.networks.comparison import compare
from harp.networks.named import find_network
from harp.report import REPORT
from harp.runs import Metrics, Run, read_json
from harp.stages import run_stages
from harp.training import OPTIMIZERS, fit, sgd
from tests.stages.test_runner import run_killed_at
from tests.tiny import results, workspace

SHORT = {"epochs": 1}
LISTED = ["pretrain", {"prune": {"keep": 0.3}}, "finetune", "prune", "finetune"]
ROUNDS: dict[str, object] = {
    "stages": LISTED,
    "pretrain": SHORT,
    "prune": {"epochs": 2, "keep": 0.1},
    "finetune": SHORT,
    "evaluation": {"attacks": ["fgsm"], "doubts": 0},
}
TRAINED = """
import torch
from harp.models import build

def make(classes, channels, size):
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        return build("digits_cnn", classes=classes, channels=channels, size=size, width=0.125)
"""


def kept(folder, stage):
    masks = load_file(folder / stage / "masks.safetensors")
    return sum(int(mask.sum()) for mask in masks.values()), sum(mask.size for mask in masks.values())


def test_two_rounds_prune_twice_resume_and_ship_the_last(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_stages(workspace(whole, **ROUNDS))
    for stage, keep in (("2-prune", 0.3), ("4-prune", 0.1)):
        left, total = kept(whole, stage)
        assert left == round(keep * total)
    final = load_file(whole / "5-finetune" / "model.safetensors")
    exported = load_file(whole / "export" / "model.safetensors")
    assert all((final[name] == exported[name]).all() for name in final)
    assert (
        sum(numpy.count_nonzero(exported[name]) for name in load_file(whole / "4-prune" / "masks.safetensors"))
        == (kept(whole, "4-prune")[0])
    )
    models = read_json(whole / "evaluation" / "results.json")["models"]
    assert list(models) == ["dense", "pruned", "finetuned", "pruned-2", "finetuned-2"]
    assert [models[name]["kept"] for name in models][1:] == [
        *[kept(whole, "2-prune")[0]] * 2,
        *[kept(whole, "4-prune")[0]] * 2,
    ]
    assert "finetuned-2" in (whole / REPORT).read_text()
    assert find_network(str(whole)).weights == whole / "export" / "model.safetensors"
    (line,) = compare([whole])
    assert line.cells["kept"].values == (models["finetuned-2"]["kept"] / models["finetuned-2"]["total"],)

    run_killed_at(killed, monkeypatch, "prune-2", 3, **ROUNDS)
    run_stages(workspace(killed, **ROUNDS))
    assert results(killed) == results(whole)


def test_a_stage_alone_is_the_next_of_its_kind(tmp_path):
    run_stages(workspace(tmp_path, **ROUNDS), ["pretrain"])
    for names in (["prune"], ["prune"]):
        run_stages(workspace(tmp_path, **ROUNDS), names)
    assert not Run(tmp_path).at("4-prune").exists()
    run_stages(workspace(tmp_path, **ROUNDS), ["finetune"])
    run_stages(workspace(tmp_path, **ROUNDS), ["prune"])
    assert Run(tmp_path).done("4-prune") is not None


def test_rounds_may_be_added_to_a_run_and_those_that_are_done_stay(tmp_path):
    first = {**ROUNDS, "stages": LISTED[:3]}
    run_stages(workspace(tmp_path, **first), ["pretrain", "prune", "finetune"])
    before = (tmp_path / "3-finetune" / "model.safetensors").stat().st_mtime_ns
    run_stages(workspace(tmp_path, **ROUNDS), ["pretrain", "prune", "finetune"])
    assert (tmp_path / "3-finetune" / "model.safetensors").stat().st_mtime_ns == before
    assert Run(tmp_path).done("5-finetune") is not None
    other = {**ROUNDS, "stages": ["pretrain", {"prune": {"keep": 0.2}}, *LISTED[2:]]}
    with pytest.raises(HarpError, match="begun with another setting of stages"):
        run_stages(workspace(tmp_path, **other), ["finetune"])


def test_a_network_that_comes_with_weights_is_pruned_as_it_is(tmp_path):
    (tmp_path / "net.py").write_text(TRAINED)
    sections = {**ROUNDS, "stages": ["prune"], "model": {"name": f"{tmp_path / 'net.py'}:make", "width": 1.0}}
    run_stages(workspace(tmp_path / "run", **sections))
    assert [path.name for path in sorted((tmp_path / "run").glob("?-*"))] == ["1-prune"]
    assert list(read_json(tmp_path / "run" / "evaluation" / "results.json")["models"]) == ["pruned"]
    assert "1-prune" in (tmp_path / "run" / REPORT).read_text()


def test_one_that_has_none_is_not(tmp_path):
    with pytest.raises(HarpError, match="prune comes first, and digits_cnn has no trained weights; list pretrain"):
        run_stages(workspace(tmp_path, **{**ROUNDS, "stages": ["prune"]}))
    with pytest.raises(HarpError, match="finetune comes first and has nothing to train on"):
        run_stages(workspace(tmp_path, **{**ROUNDS, "stages": ["finetune"]}))


def test_an_attack_of_its_own_is_of_one_stage(tmp_path, monkeypatch):
    steps = {}

    def spying(*args, **options):
        steps[options["stage"]] = options["objective"].attack
        fit(*args, **options)

    monkeypatch.setattr("harp.stages.training.fit", spying)
    sections = {"pretrain": SHORT, "finetune": SHORT, "prune": {**SHORT, "attack": {"steps": 1}}}
    work = workspace(tmp_path, **sections)
    run_stages(work, ["pretrain", "prune", "finetune"])
    assert [steps[name].steps for name in ("pretrain", "prune", "finetune")] == [2, 1, 2]
    assert len({(attack.step, attack.start_in_box) for attack in steps.values()}) == 1
    assert work.training_attack.steps == 2  # validation's


def test_learning_rates_by_role(tmp_path, monkeypatch):
    groups = {}

    def spying(*args, **options):
        made = sgd(*args, **options)
        groups.update({group["role"]: group["lr"] for group in made.param_groups})
        return made

    monkeypatch.setitem(OPTIMIZERS, "sgd", spying)
    sections = {"pretrain": SHORT, "prune": {**SHORT, "lr": 0.5, "lrs": {"rates": 0.01}}}
    run_stages(workspace(tmp_path, **sections), ["pretrain", "prune"])
    assert {name: groups[name] for name in ("scores", "rates", "norms")} == {"scores": 0.5, "rates": 0.01, "norms": 0.5}
    (line,) = Metrics(tmp_path / "2-prune" / "metrics.jsonl")
    assert line["lr"] is not None


def test_a_role_that_nothing_trains_in_is_refused(tmp_path):
    sections = {"pretrain": {**SHORT, "lrs": {"weigths": 0.1}}}
    with pytest.raises(HarpError, match="lrs: nothing trains as 'weigths' in this stage; did you mean 'weights'"):
        run_stages(workspace(tmp_path, **sections), ["pretrain"])


def test_a_ticket_begins_anew_from_the_weights_the_network_was_built_with(tmp_path):
    still = {"lr": 1e-12, "weight_decay": 0, "selection": "last"}
    sections = {"pretrain": SHORT, "prune": {"method": "li20"}, "finetune": {**SHORT, **still, "rewind": True}}
    work = workspace(tmp_path, **sections)
    run_stages(work, ["pretrain", "prune", "finetune"])
    built, tuned = work.model().state_dict(), load_file(tmp_path / "3-finetune" / "model.safetensors")
    for name, mask in load_file(tmp_path / "2-prune" / "masks.safetensors").items():
        numpy.testing.assert_allclose(tuned[name], numpy.where(mask, built[name].numpy(), 0), atol=1e-9)
    channels = {**sections, "prune": {"granularity": "channels", "keep": 0.5, **SHORT}}
    with pytest.raises(HarpError, match=r"finetune\.rewind: channels are gone for good"):
        run_stages(workspace(tmp_path / "channels", **channels), ["pretrain", "prune", "finetune"])
