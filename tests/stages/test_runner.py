"""The whole house on tiny digits: every stage, skipped when done, resumed when begun."""

import errno
import json
import os
import re
import shutil
import warnings

import numpy
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from harp.config import plan
from harp.errors import HarpError
from harp.objectives import OBJECTIVES, FastAT, has_teacher
from harp.pipeline.workspace import default_folder
from harp.pruners import METHODS, SearchWarning
from harp.runs import Metrics, Run, read_json
from harp.stages import STAGES, run_stages, training as train_module
from harp.stages.runner import AFTER
from harp.training import fit
from tests.tiny import results, tiny, workspace

FOLDERS = {stage.name: stage.folder for stage in plan()}


def everywhere(**settings):
    return dict.fromkeys(("pretrain", "prune", "finetune"), settings)


# Killed below at steps 6, 7 and 5, after checkpoints at 6, 6 and 3: with free-at within the four replays of a batch.
SHORT = {"epochs": 2, "checkpoint_every": "3it"}
AWP = {"awp": 0.01, "awp_warmup": 1}

AWP_TRADES = everywhere(objective="trades", batch_norm="mixed", **SHORT, **AWP)

CHANNELS = {"granularity": "channels", "keep": 0.5}


def channels(**settings):
    return {**everywhere(**settings), "prune": {**settings, **CHANNELS}}


# Every objective can train the first network but one that learns from it.
UNTAUGHT = [name for name in OBJECTIVES if not has_teacher(OBJECTIVES[name])]
TAUGHT = {"objective": "pwoa", **SHORT}

FLYING = {"prune": {"method": "flyingbird", "options": {"every": "2it", "grow": "gradient"}}}

# These have no form for channels.
OF_WEIGHTS = ("bcs-p", "cyclic", "dnr", "flyingbird", "flyingbird+", "mad")
OF_CHANNELS = ("anp-vs", "l1-filters")
GROWS = {"every": "3it", "since": "1it", "window": 1, "drop": 0.2, "growth": 2}
GROWING = {"prune": {"method": "flyingbird+", "lr": 0.05, "epochs": 6, "keep": 0.3, "options": GROWS}}

EXACT = {"mode": "exact", "estimator": "marginal", "start": "erk"}
FREE = everywhere(objective="free-at", **SHORT, **AWP)
AVERAGE = {"average": 0.9, **SHORT}
AVERAGED = {**everywhere(renew_norms=2, **AVERAGE), "finetune": {"batch_norm": "mixed", **AVERAGE}}
BF16 = {"precision": {"bf16": "both", "channels_last": True}}

# One of each kind, several in a run; the others differ from these in one part that its own tests cover, too.
QUICK = (
    {"prune": {"method": "harp"}},
    {**FREE, "prune": {**FREE["prune"], "method": "hydra", **CHANNELS}},
    FLYING,
    {**channels(objective="trades", **SHORT), "prune": {"objective": "trades", "options": EXACT, **SHORT, **CHANNELS}},
    {"prune": {"options": {"gamma": 0.5, "start": "ideal-gas", "start_keep": 0.5}, "of": "macs"}},
    {**AVERAGED, **BF16},
)
OTHERS = [
    *({"prune": {"method": method}} for method in METHODS if method not in OF_CHANNELS),
    *({"prune": {"method": method, **CHANNELS}} for method in METHODS if method not in OF_WEIGHTS),
    GROWING,
    {"prune": {"method": "cyclic", "options": {"every": "2it", "cycles": 1, "swing": 0.8}}},
    {"prune": {"method": "mad", "options": {"order": "size", "mask_steps": 3}, "of": "macs"}},
    {**AWP_TRADES, "prune": {**AWP_TRADES["prune"], "method": "s2ap", "options": {"warmup": 1, "gamma": 0.5}}},
    {"prune": {"method": "s2ap", "options": {"base": "hydra", "warmup": 0, "radius": 0.05}, **CHANNELS}},
    {"prune": {"method": "s2ap", "options": {"base": "rst", "warmup": 1}, "objective": "free-at"}},
    {"prune": {"method": "bcs-p", "options": {"form": "published", "start": "uniform", "decay": 0.05}}},
    {"prune": {"method": "dnr", "options": {"every": "2it"}, "of": "macs", "optimizer": "adamw", "lr": 0.003}},
    {"prune": {"method": "pwoa", "options": {"form": "published", "allocation": "global"}}},
    {"prune": {"method": "anp-vs", "objective": "trades", "optimizer": "adamw", "lr": 0.001, **CHANNELS}},
    {"prune": {"method": "twinrep", "options": {"after": "6it", "start": "scaled"}}},
    {"prune": {"method": "twinrep", "options": {"after": "6it"}, "of": "macs", **CHANNELS}},
    {"prune": {"method": "li20", "options": {"form": "published", "allocation": "lamp"}}},
    *({"prune": {"method": "hydra", "granularity": kind}} for kind in ("vectors", "kernels", "filters")),
    {"prune": {"granularity": "kernels", "options": {"mode": "exact", "estimator": "marginal"}}},
    {"prune": {"method": "magnitude", "granularity": "filters", "of": "macs", "keep": 0.3}},
    {"prune": {"method": "twinrep", "granularity": "vectors", "options": {"after": "6it"}}},
    {"prune": {"method": "magnitude", "options": {"schedule": "gradual", "allocation": "global"}}},
    {"prune": {"method": "magnitude", "options": {"schedule": "iterative", "share": 0.5}, **CHANNELS}},
    *(everywhere(objective=name, **SHORT, **awp) for name in UNTAUGHT for awp in ({}, AWP)),
    *(channels(objective=name, **SHORT) for name in UNTAUGHT),
    {name: {"objective": "pwoa", "attacked": 0.5, **SHORT, **AWP} for name in ("prune", "finetune")},
    {"prune": {"method": "pwoa", "hsic_x": 0, "hsic_y": 0, **TAUGHT, **CHANNELS}, "finetune": TAUGHT},
    *(
        {stage: {"objective": name, "alpha": 0.5, **SHORT, **AWP} for stage in ("prune", "finetune")}
        for name in ("ard", "rslad", "adaad")
    ),
    channels(**SHORT, **AWP),
    *({"prune": {"options": {"mode": "exact", "estimator": name}}} for name in ("sum", "pruned", "marginal", "zero")),
    {"prune": {"options": EXACT, **CHANNELS}},
    {"prune": {"method": "scores-only", "options": {"start": "lamp"}, "of": "macs"}},
    {"prune": {"of": "parameters", **CHANNELS}},
    {**everywhere(objective="free-at", replays=3, **SHORT), "threat": {"norm": "2", "eps": 0.5}},
    {"prune": {"batch_norm": "mixed"}, "finetune": {"selection": "last"}, "threat": {"norm": "2", "eps": 0.5}},
    {"data": {"holdout": 0.0}, **everywhere(selection="last")},
    *({"precision": {"bf16": part}} for part in ("attack", "step")),
    BF16,
    {"prune": {"schedule": "cosine-epochs", "validate_every": "2it", "checkpoint_every": "3it"}},
    AVERAGED,
    {**everywhere(accumulate=2, **SHORT, **AWP), "precision": {"recompute": True, "bf16": "both"}},
    everywhere(objective="free-at", cutmix=0.5, average=0.5, **SHORT),
    everywhere(cutmix=0.5, smoothing=0.1, accumulate=2, clip=1.0, **SHORT),
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

    def dying(*args, **options):
        def die(moment):
            if options["stage"] == stage and moment.step == step:
                raise Killed

        fit(*args, **{**options, "on": [*options["on"], die]})

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit", dying)
        with pytest.raises(Killed):
            run_stages(workspace(folder, **sections), [name for name in STAGES if name != "report"])


def steps_of(folder, stage):
    """How many steps the stage made: none where a method needs no training there."""
    done = Run(folder).done(FOLDERS[stage])
    return done["steps"] if done else 0


@pytest.mark.parametrize(
    "sections",
    [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS if one not in QUICK)],
    ids=json.dumps,
)
def test_every_choice_trains_resumes_bit_identically_and_exports(tmp_path, monkeypatch, sections):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    measured = [name for name in STAGES if name != "report"]  # half of the time, and no part of what is compared
    run_stages(workspace(whole, **sections), measured)
    for stage, step in (("pretrain", 6), ("prune", 7), ("finetune", 5)):
        if steps_of(whole, stage):
            run_killed_at(killed, monkeypatch, stage, step, **sections)
    run_stages(workspace(killed, **sections), measured)
    assert results(killed) == results(whole)
    exported = load_file(whole / "export" / "model.safetensors")
    manifest = read_json(whole / "export" / "manifest.json")
    allocation = read_json(whole / "2-prune" / "allocation.json")
    kept = {name: site["kept"] for name, site in manifest["sites"].items()}
    there = {name: int(numpy.count_nonzero(exported[name])) for name in manifest["sites"]}
    # What grows begins at zero, and stays there where no gradient comes; it counts as kept all the same.
    grows = sections is GROWING or sections.get("prune", {}).get("method") == "dnr"
    assert all(0 <= kept[name] - there[name] < 20 for name in kept) if grows else there == kept
    assert allocation["budget"] == round(allocation["keep"] * allocation["total"])
    if allocation["of"] == "parameters" and allocation["granularity"] == "weights":
        assert sum(kept.values()) == allocation["price"] == allocation["budget"]
    else:
        measured = read_json(whole / "evaluation" / "results.json")["models"]["finetuned"]
        counted = {"parameters": measured["kept"], "macs": measured["macs"]}
        assert 0.8 * allocation["budget"] < allocation["price"] <= allocation["budget"]
        assert counted[allocation["of"]] == allocation["price"]


def test_a_network_trained_sparse_from_scratch_has_no_dense_one_beside_it(tmp_path):
    run_stages(workspace(tmp_path, **FLYING))
    assert not (tmp_path / "1-pretrain").exists()
    assert read_json(tmp_path / "evaluation" / "results.json")["models"].keys() == {"pruned", "finetuned"}
    assert "flyingbird" in (tmp_path / "report.md").read_text()
    assert "; dense" not in (tmp_path / "report.html").read_text()


def test_a_method_may_hear_of_training_images_too(finished, tmp_path):
    prune = {"method": "flyingbird+", "options": {"every": "2it"}}
    run_stages(workspace(tmp_path, prune=prune), ["prune"])
    told = [line["validation"] for line in Metrics(tmp_path / "2-prune" / "metrics.jsonl")]
    assert all(measures.keys() == {"clean", "robust", "train_clean", "train_robust"} for measures in told)
    assert any(measures["train_robust"] != measures["robust"] for measures in told)
    usual = [line["validation"] for line in Metrics(finished / "2-prune" / "metrics.jsonl")]
    assert all(measures.keys() == {"clean", "robust"} for measures in usual)


def test_options_that_the_others_leave_no_use_for_are_named(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    prune = {"source": source, "epochs": 1, "options": {"mode": "exact", "gamma": 1}}
    run_stages(workspace(tmp_path, prune=prune), ["prune"])
    assert notes(tmp_path, "2-prune")[0] == (
        "prune.options.gamma was not used: mode exact weighs nothing against the loss"
    )


def test_what_is_cut_at_once_takes_no_step(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    run_stages(workspace(tmp_path, prune={"source": source, "method": "magnitude"}), ["prune"])
    assert read_json(tmp_path / "2-prune" / "done.json")["steps"] == 0
    dense = load_file(source)
    masks = load_file(tmp_path / "2-prune" / "masks.safetensors")
    pruned = load_file(tmp_path / "2-prune" / "model.safetensors")
    assert all((pruned[name] == numpy.where(mask, dense[name], 0)).all() for name, mask in masks.items())


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
    run_stages(workspace(tmp_path, prune={"options": {"gamma": 0.0}, "keep": 0.02, "epochs": 1}), ["pretrain", "prune"])
    allocation = read_json(tmp_path / "2-prune" / "allocation.json")
    assert allocation["density_before"] > 0.05
    assert sum(site["kept"] for site in allocation["sites"]) == allocation["budget"]
    assert "times the budget" in read_json(tmp_path / "2-prune" / "done.json")["notes"][0]


def test_so_does_one_that_ends_below_it_or_with_rates_at_their_floor(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    settings = {"source": source, "options": {"gamma": 100.0}, "lr": 1.0, "selection": "last"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SearchWarning)  # said once, in the notes
        run_stages(workspace(tmp_path, prune=settings), ["prune"])
    allocation = read_json(tmp_path / "2-prune" / "allocation.json")
    assert allocation["density_before"] < 0.05
    assert sum(site["kept"] for site in allocation["sites"]) == allocation["budget"]
    below, collapsed = notes(tmp_path, "2-prune")
    assert re.match(r"the chosen rates stood at 0\.\d\d times the budget; settle filled it up with \d+ weights", below)
    assert "of 5 learned rates collapsed to 0.011 or less" in collapsed


@pytest.mark.parametrize(
    ("options", "decayed"),
    [({"mode": "penalty"}, True), ({"mode": "exact"}, False), ({"mode": "exact", "rate_weight_decay": 0.01}, True)],
    ids=json.dumps,
)
def test_the_command_decays_rates_as_the_library_does(finished, tmp_path, options, decayed):
    source = str(finished / "1-pretrain" / "model.safetensors")
    run_stages(workspace(tmp_path, prune={"source": source, "epochs": 1, "options": options}), ["prune"])
    (record,) = Metrics(tmp_path / "2-prune" / "metrics.jsonl")
    assert all((value != 0) == decayed for value in record["pruner"]["rate_gradients"]["decay"].values())


@pytest.mark.parametrize(
    ("prune", "words"),
    [
        ({"method": "hydra", "options": {"gamma": 1}}, "no setting 'prune.options.gamma'; there is none here"),
        ({"options": {"gama": 1}}, "no setting 'prune.options.gama'; did you mean 'gamma'"),
        ({"method": "flyingbird", "options": {"every": "2"}}, "prune.options.every: expected a span such as"),
    ],
    ids=json.dumps,
)
def test_options_that_a_method_does_not_have_stop_the_run_before_it_begins(tmp_path, prune, words):
    with pytest.raises(HarpError) as refusal:
        workspace(tmp_path, prune=prune)
    assert str(refusal.value).startswith(words)


def notes(folder, stage):
    return read_json(folder / stage / "done.json")["notes"]


def test_settings_an_objective_has_no_use_for_are_named(tmp_path):
    unused = {"objective": "natural", "epochs": 1, "beta": 1, "replays": 2, "guard_every": "2it", "awp_warmup": 1}
    run_stages(workspace(tmp_path, pretrain={**unused, "batch_norm": "mixed"}), ["pretrain"])
    assert notes(tmp_path, "1-pretrain") == [
        *(
            f"natural has no {name}: pretrain.{name} was not used"
            for name in ("batch_norm", "beta", "guard_every", "replays")
        ),
        "pretrain.awp_warmup was not used: pretrain.awp is 0",
    ]


@pytest.mark.parametrize(
    ("used", "other"),
    [
        ({"objective": "trades", "beta": 1}, {"beta": 2}),
        ({"objective": "mart", "beta": 1}, {"beta": 2}),
        ({"objective": "free-at", "replays": 2}, {"replays": 3}),
        ({"objective": "pwoa", "beta": 1}, {"beta": 2}),
        ({"objective": "pwoa", "temperature": 1}, {"temperature": 2}),
        ({"objective": "pwoa", "hsic_x": 1}, {"hsic_x": 2}),
        ({"objective": "pwoa", "hsic_y": 1}, {"hsic_y": 2}),
        ({"objective": "pwoa", "attacked": 1}, {"attacked": 0.5}),
        ({"objective": "natural", "awp": 0.1}, {"awp": 0.2}),
        ({"objective": "natural", "awp": 0.1}, {"awp_warmup": 1}),
    ],
    ids=json.dumps,
)
def test_settings_of_objectives_are_used(finished, tmp_path, used, other):
    short = {"epochs": 2, "selection": "last"}
    if used["objective"] == "pwoa":
        short["teacher"] = str(finished / "1-pretrain" / "model.safetensors")
    for name, settings in (("used", {**short, **used}), ("other", {**short, **used, **other})):
        run_stages(workspace(tmp_path / name, pretrain=settings, data={"train": 80}), ["pretrain"])
        assert notes(tmp_path / name, "1-pretrain") == []
    weights = [(tmp_path / name / "1-pretrain" / "model.safetensors").read_bytes() for name in ("used", "other")]
    assert weights[0] != weights[1]


def test_who_learns_from_a_teacher_has_one_or_is_refused_before_the_run_begins(finished, tmp_path):
    scratch = {"prune": {"method": "flyingbird"}, "finetune": {"objective": "pwoa"}}
    for sections in ({"pretrain": {"objective": "pwoa"}}, scratch):
        with pytest.raises(HarpError, match="no dense network comes before this stage; name its weights"):
            workspace(tmp_path, **sections)
    source = str(finished / "2-prune" / "model.safetensors")
    with pytest.raises(HarpError, match="no dense network comes before"):
        run_stages(workspace(tmp_path, finetune={"objective": "pwoa", "source": source}), ["finetune"])
    work = workspace(finished)
    weights = work.teacher(work.recipe.finetune).state_dict()
    assert all(
        torch.equal(value, weights[name])
        for name, value in work.loaded(work.run.at("1-pretrain") / "model.safetensors").state_dict().items()
    )


def test_an_epoch_is_a_pass_over_the_images_however_often_a_batch_is_used(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    free = {"objective": "free-at", "epochs": 2, "options": {"gamma": 2**-30}}
    run_stages(workspace(tmp_path, prune={"source": source, **free}), ["prune"])
    records = list(Metrics(tmp_path / "2-prune" / "metrics.jsonl"))
    assert [(r["step"], r["epoch"]) for r in records] == [(16, 1), (32, 2)]
    # HARP's own epochs: its penalty has just gone on to the next one.
    assert [r["pruner"]["gamma"] for r in records] == [2 * 2**-30, 3 * 2**-30]
    assert read_json(tmp_path / "2-prune" / "done.json")["steps"] == 32


def test_what_an_objective_has_noticed_is_told_and_outlives_a_kill(tmp_path, monkeypatch):
    settings = {"objective": "fast-at", "guard_every": "2it", "epochs": 2, "checkpoint_every": "3it"}
    monkeypatch.setattr(FastAT, "_check", lambda self, *_: self.collapses.append([self.batches, 32, 30, 0]))
    run_killed_at(tmp_path, monkeypatch, "pretrain", 6, pretrain=settings)
    run_stages(workspace(tmp_path, pretrain=settings), ["pretrain"])
    (note,) = notes(tmp_path, "1-pretrain")
    assert note.startswith("catastrophic overfitting in 4 of 4 checks, first in number 1: of 32 training images 30 ")


def test_a_network_cut_through_is_named(tmp_path):
    # Five weights, one a layer, and no two of them in line.
    run_stages(workspace(tmp_path, prune={"method": "hydra", "keep": 0.001879, "epochs": 1}), ["pretrain", "prune"])
    assert read_json(tmp_path / "2-prune" / "allocation.json")["price"] == 5
    assert "all of 64 training images the same logits" in read_json(tmp_path / "2-prune" / "done.json")["notes"][-1]


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


def test_a_doubt_is_acknowledged_without_attacking_or_training_again(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    looked_into = {"evaluation": {"acknowledge": ["unconverged"], "doubts": 8}}
    assert default_folder(tiny(**looked_into)) == default_folder(tiny())
    run_stages(workspace(tmp_path / "run", **looked_into))
    assert {path: path.read_bytes() for path in before} == before
    done = read_json(tmp_path / "run" / "evaluation" / "done.json")
    assert done["asked"] == {"networks": "all", "curve": 0, "doubts": 8, "acknowledge": ["unconverged"]}
    result = read_json(tmp_path / "run" / "evaluation" / "finetuned" / "result.json")
    assert result["examined"] == 8
    assert (tmp_path / "run" / "report.html").exists()


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


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_works_in_a_folder_where_another_process_does(copy, stage):
    marker = copy / {"evaluate": "evaluation", "report": ""}.get(stage, FOLDERS.get(stage, stage)) / "done.json"
    (copy / "report.html" if stage == "report" else marker).unlink()
    before = results(copy)
    other = Run(copy)
    other.claim()
    with pytest.raises(HarpError, match="another process is at work"):
        run_stages(workspace(copy), [stage])
    assert results(copy) == before
    other.release()


def test_what_another_process_ended_meanwhile_is_not_done_again(copy, monkeypatch):
    done = (copy / "export" / "done.json").read_bytes()
    (copy / "export" / "done.json").unlink()
    monkeypatch.setattr(Run, "claim", lambda self: (copy / "export" / "done.json").write_bytes(done))
    monkeypatch.setitem(AFTER, "export", None)
    run_stages(workspace(copy), ["export"])


def test_an_export_made_anew_leaves_no_report_of_the_old_one(copy):
    (copy / "export" / "done.json").unlink()
    run_stages(workspace(copy), ["export"])
    assert not (copy / "report.html").exists()
    assert not (copy / "report.md").exists()


def test_what_a_kill_left_after_the_marker_is_cleared_by_the_next_stage(copy):
    left = [copy / "2-prune" / name for name in ("checkpoint.safetensors", "best.safetensors", ".x.partial")]
    for path in left:
        path.write_bytes(b"")
    (copy / "export" / "done.json").unlink()
    run_stages(workspace(copy), ["export"])
    assert not any(path.exists() for path in left)


def test_a_run_goes_on_once_there_is_room_on_the_disk(finished, tmp_path, monkeypatch):
    sync, stages = os.fsync, ["pretrain", "prune", "finetune"]
    for room in (3, 14, 21):
        left = iter(range(room))

        def full(handle, left=left):
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(HarpError, match=r"^cannot write .*no space left .* make room and run the same command"):
                run_stages(workspace(tmp_path), stages)
        assert not list(tmp_path.rglob("*.partial"))
    run_stages(workspace(tmp_path), stages)
    whole = results(finished)
    assert results(tmp_path) == {name: whole[name] for name in results(tmp_path)}
