"""The whole house on tiny digits: every stage, skipped when done, resumed when begun."""

import json
import shutil

import numpy
import pytest
import transformers
from safetensors.numpy import load_file

from harp.errors import HarpError
from harp.objectives import OBJECTIVES
from harp.pipeline import run_stages
from harp.pipeline import train as train_module
from harp.pruners import METHODS
from harp.runs import read_json
from tests.tiny import results, workspace

CONFIGURATIONS = [
    *({"prune": {"method": method}} for method in METHODS),
    *({name: {"objective": objective} for name in ("pretrain", "prune", "finetune")} for objective in OBJECTIVES),
    {"prune": {"batch_norm": "mixed"}, "finetune": {"selection": "last"}, "threat": {"norm": "2", "eps": 0.5}},
    {"data": {"holdout": 0.0}, **{name: {"selection": "last"} for name in ("pretrain", "prune", "finetune")}},
    *({"precision": {"bf16": part}} for part in ("attack", "step")),
    {"precision": {"bf16": "both", "channels_last": True}},
    {"prune": {"schedule": "cosine-epochs", "validate_every": "2it", "checkpoint_every": "3it"}},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_stages(workspace(folder))
    return folder


class Killed(BaseException):
    pass


def run_killed_at(folder, monkeypatch, stage, step, **sections):
    """A run that ends, as by a kill, right after the given step of the stage."""
    fit = train_module.fit

    def dying(*args, **options):
        def die(moment):
            if options["stage"] == stage and moment.step == step:
                raise Killed

        fit(*args, **{**options, "on": [*options["on"], die]})

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit", dying)
        with pytest.raises(Killed):
            run_stages(workspace(folder, **sections))


@pytest.mark.parametrize("sections", CONFIGURATIONS, ids=json.dumps)
def test_every_choice_trains_resumes_bit_identically_and_exports(tmp_path, monkeypatch, sections):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_stages(workspace(whole, **sections))
    for stage, step in (("pretrain", 6), ("prune", 7), ("finetune", 5)):
        run_killed_at(killed, monkeypatch, stage, step, **sections)
    run_stages(workspace(killed, **sections))
    assert results(killed) == results(whole)
    exported = load_file(whole / "export" / "model.safetensors")
    manifest = read_json(whole / "export" / "manifest.json")
    kept = {name: int(numpy.count_nonzero(exported[name])) for name in manifest["sites"]}
    assert kept == {name: site["kept"] for name, site in manifest["sites"].items()}
    assert sum(kept.values()) == round(0.1 * manifest["total"])


def test_a_finished_run_is_left_alone(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    run_stages(workspace(finished))
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_stage_whose_marker_is_gone_is_done_again_to_the_same_bytes(finished):
    before = results(finished)
    (finished / "2-prune" / "done.json").unlink()
    run_stages(workspace(finished))
    assert results(finished) == before


def test_only_finished_stages_leave_no_resume_files(finished):
    names = {path.name for path in finished.rglob("*")}
    assert not names & {"checkpoint.safetensors", "best.safetensors"}
    assert not any(name.endswith(".partial") for name in names)


def test_a_stage_needs_the_one_before_it(tmp_path):
    with pytest.raises(HarpError, match="no finished pretrain stage"):
        run_stages(workspace(tmp_path), ["prune"])


def test_a_source_makes_pretraining_unnecessary(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    run_stages(workspace(tmp_path, prune={"source": source}))
    assert not (tmp_path / "1-pretrain").exists()
    assert (tmp_path / "2-prune" / "model.safetensors").read_bytes() == (
        finished / "2-prune" / "model.safetensors"
    ).read_bytes()
    assert "dense" in read_json(tmp_path / "evaluation" / "results.json")["models"]


def test_a_folder_holds_one_recipe(finished):
    with pytest.raises(HarpError, match="begun with another setting of seed"):
        run_stages(workspace(finished, seed=1), ["prune", "report"])


def test_a_setting_may_change_until_a_stage_depends_on_it(tmp_path):
    run_stages(workspace(tmp_path), ["pretrain"])
    run_stages(workspace(tmp_path, prune={"keep": 0.2}), ["prune"])
    assert read_json(tmp_path / "2-prune" / "allocation.json")["keep"] == 0.2
    with pytest.raises(HarpError, match="another setting of prune"):
        run_stages(workspace(tmp_path, prune={"keep": 0.3}), ["finetune"])


def test_a_stage_that_ends_over_budget_settles_exactly_and_says_so(tmp_path):
    run_stages(workspace(tmp_path, prune={"gamma": 0.0, "keep": 0.02, "epochs": 1}), ["pretrain", "prune"])
    allocation = read_json(tmp_path / "2-prune" / "allocation.json")
    assert allocation["density_before"] > 0.05
    assert sum(site["kept"] for site in allocation["sites"]) == allocation["budget"]
    assert "times the budget" in read_json(tmp_path / "2-prune" / "done.json")["notes"][0]


def test_settings_a_method_has_no_use_for_are_named(tmp_path):
    run_stages(workspace(tmp_path, prune={"method": "hydra"}), ["pretrain", "prune"])
    assert read_json(tmp_path / "2-prune" / "done.json")["notes"] == ["hydra has no gamma: prune.gamma was not used"]


def test_an_evaluation_made_too_early_is_made_whole(finished, tmp_path):
    run_stages(workspace(tmp_path), ["pretrain"])
    run_stages(workspace(tmp_path), ["evaluate"])
    assert read_json(tmp_path / "evaluation" / "results.json")["models"].keys() == {"dense"}
    run_stages(workspace(tmp_path))
    assert results(tmp_path) == results(finished)


def test_a_finished_run_can_be_evaluated_anew(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / "report.html").read_bytes()
    stronger = {"evaluation": {"restarts": 4}}
    with pytest.raises(HarpError, match="another setting of evaluation"):
        run_stages(workspace(tmp_path / "run", **stronger))
    shutil.rmtree(tmp_path / "run" / "evaluation")
    run_stages(workspace(tmp_path / "run", **stronger))
    assert "restarts=4" in read_json(tmp_path / "run" / "evaluation" / "results.json")["attacks"]["pgd"]
    assert (tmp_path / "run" / "report.html").read_bytes() != before


def test_fine_tuning_may_begin_from_somebody_elses_pruned_network(finished, tmp_path):
    source = str(finished / "2-prune" / "model.safetensors")
    run_stages(workspace(tmp_path, finetune={"source": source}))
    ours, theirs = tmp_path / "export" / "model.safetensors", finished / "export" / "model.safetensors"
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A run of a ViT from its configuration, its attention and all but the first layer's weights left unpruned."""
    folder = tmp_path_factory.mktemp("foreign")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.ViTConfig(patch_size=4, **sizes).save_pretrained(folder / "vit")
    run_stages(workspace(folder / "run", model=foreign_model(folder)))
    return folder


def foreign_model(folder):
    only = {"include": ["*.layers.0"], "exclude": ["*.attention"]}
    return {"name": f"hf:{folder / 'vit'}", "width": 1.0, "mean": [0.5], "std": [0.5], **only}


def test_a_foreign_network_runs_through_every_stage_and_only_what_is_selected_is_pruned(foreign):
    masks = load_file(foreign / "run" / "export" / "masks.safetensors")
    model = load_file(foreign / "run" / "export" / "model.safetensors")
    layer = "model.vit.layers.0.mlp."
    assert set(masks) == {f"{layer}fc1.weight", f"{layer}fc2.weight"}
    assert sum(numpy.count_nonzero(model[name]) for name in masks) == round(0.1 * 2 * 16 * 32)
    assert (
        sum(size["kept"] for size in read_json(foreign / "run" / "export" / "manifest.json")["sites"].values()) == 102
    )
    assert all(model[name].all() for name in model if name.endswith("weight") and name not in masks)


def test_masks_of_other_weights_than_the_selected_are_refused(foreign, tmp_path):
    source = {"source": str(foreign / "run" / "2-prune" / "model.safetensors")}
    model = {**foreign_model(foreign), "exclude": ["*.attention", "*.fc1"]}
    with pytest.raises(HarpError, match=r"has a mask for model.vit.*fc1.weight, which model.include and model.exclude"):
        run_stages(workspace(tmp_path, model=model, finetune=source), ["finetune"])


def test_a_selector_that_matches_nothing_stops_the_run_before_it_begins(tmp_path):
    with pytest.raises(HarpError, match="exclude: 'layer9' matches no weight"):
        run_stages(workspace(tmp_path, model={"exclude": ["layer9"]}))
    assert not (tmp_path / "1-pretrain").exists()
