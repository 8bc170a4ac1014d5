"""The command line as users meet it: what it prints, what it refuses, and that it leaves nothing half-written."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from harp import ALLOCATIONS, ATTACKS, DATA, METHODS, MODELS, OBJECTIVES
from harp.cli import main
from harp.config import RECIPES, Recipe, write_recipe
from harp.stages import run_stages
from tests.tiny import tiny, workspace


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_bytes(write_recipe(tiny()))
    return tmp_path


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    run_stages(workspace(folder), ["pretrain"])
    return folder / "1-pretrain" / "model.safetensors"


def refused(capsys: pytest.CaptureFixture[str], *arguments) -> str:
    """The one error that a command ends with."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_run_is_a_no_op_the_second_time(here, capsys):
    main(["run", "tiny.yaml"])
    first = capsys.readouterr().out
    assert "finetuned" in first
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    main(["run", "tiny.yaml"])
    second = capsys.readouterr().out
    assert "report.html" in second
    assert "prune ..." not in second
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


@pytest.mark.slow
def test_stage_by_stage_is_the_whole_run(here, capsys):
    for stage in ("pretrain", "prune", "finetune", "evaluate", "export", "report"):
        main([stage, "tiny.yaml", "--folder", "stages"])
    main(["run", "tiny.yaml", "--folder", "whole"])
    for name in ("2-prune/masks.safetensors", "export/model.safetensors", "evaluation/results.json"):
        assert (here / "stages" / name).read_bytes() == (here / "whole" / name).read_bytes()
    assert (here / "stages" / "report.html").exists()


def test_piped_output_has_no_bars(here, capsys):
    main(["pretrain", "tiny.yaml"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "━" not in out
    assert len(out.splitlines()) <= 3


@pytest.mark.parametrize("kind", ["methods", "allocations", "objectives", "attacks", "models", "data", "recipes"])
def test_list_names_everything(capsys, kind):
    named: dict[str, Iterable[str]] = {
        "methods": METHODS,
        "allocations": ALLOCATIONS,
        "objectives": OBJECTIVES,
        "attacks": ATTACKS,
        "models": MODELS,
        "data": DATA,
        "recipes": [path.stem for path in RECIPES.glob("*.yaml")],
    }
    main(["list", kind])
    out = capsys.readouterr().out
    assert all(name in out for name in named[kind])


def test_help_tells_every_field_its_meaning_and_default(capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "--help-all"])
    assert end.value.code == 0
    out = "".join(capsys.readouterr().out.split())  # argparse breaks lines inside words with hyphens
    for section, field in Recipe.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {section: field})
        for name, leaf in inner.items():
            flag = f"--{section}.{name}" if inner is not None and name != section else f"--{section}"
            assert flag in out
            assert leaf.description, flag
            assert "".join(leaf.description.split()) in out, flag


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prun"], "did you mean 'prune'"),
        (["prune", "digit"], "did you mean 'digits'"),
        (["prune", "nowhere.yaml"], "no recipe file nowhere.yaml"),
        (["prune", "--keep", "0"], "prune.keep: input should be greater than 0, got '0'"),
        (["prune", "--keep", "1.5"], "prune.keep: input should be less than or equal to 1, got '1.5'"),
        (["prune", "--keep", "1e-6"], "smallest reachable keep"),
        (["prune", "--keeep", "0.1"], "did you mean '--prune.keep'"),
        (["run", "--prune.method", "harpp"], "did you mean 'harp'"),
        (["run", "--pretrain.objective", "pgdat"], "did you mean 'pgd-at'"),
        (["run", "--prune.options.start", "erc"], "did you mean 'erk'"),
        (["run", "--prune.options.start", "gone.yaml"], "no file gone.yaml"),
        (["run", "--prune.granularity", "channel"], "'filters' or 'channels', got 'channel'"),
        (["run", "--prune.granularity", "channels", "--prune.keep", "1e-4"], "smallest reachable keep"),
        (["prune", "--options.gama", "1"], "did you mean 'gamma'"),
        (["run", "--prune.options.gamma"], "--prune.options.gamma needs a value"),
        (["run", "--prune.options.mode", "exakt"], "'penalty' or 'exact'"),
        (["run", "--model.exclude", "0.wieght"], "did you mean '0.weight'"),
        (["run", "--evaluation.attacks", "pdg"], "did you mean 'pgd'"),
        (["run", "--model.name", "resnet81"], "did you mean 'resnet18'"),
        (["run", "--model.name", "gone.py:net"], "gone.py"),
        (["run", "--data.name", "cifar11"], "did you mean 'cifar10'"),
        (["run", "--data.name", "folder", "--data.path", "gone"], "gone does not exist"),
        (["run", "--device", "cuda:99"], "cuda:99"),
        (["run", "--device", "meta"], "device: 'meta' is not to be had here"),
        (["run", "--device", "nonsense"], "device: 'nonsense' is not to be had here"),
        (["run", "--folder", "tiny.yaml"], "tiny.yaml cannot be a run's folder: tiny.yaml is a file; choose another"),
        (["run", "--folder", "tiny.yaml/a/b"], "tiny.yaml/a/b cannot be a run's folder: tiny.yaml is a file; choose"),
        (["run", "--folder", "a" * 300], "cannot be a run's folder: File name too long; choose another --folder"),
        (["evaluate", "digits_cnn", "--folder", "tiny.yaml"], "tiny.yaml is a file"),
        (["prune", "tiny.yaml", "--edited", "a.py"], "--edited a.py: digits_cnn is not made of it"),
        (["run", "--data.holdout", "0"], "data.holdout"),
        (["run", "--threat.norm", "1"], "training knows inf and 2"),
        (["run", "--threat.norm", "3"], "'inf', '2' or '1'"),
        (["list", "method"], "did you mean 'methods'"),
        (["prune", "--source", "gone.safetensors"], "no file gone.safetensors"),
        (["prune"], "no finished pretrain stage"),
        (["finetune"], "no finished prune stage"),
        (["evaluate"], "no finished training stage"),
        (["export"], "no finished finetune stage"),
        (["report"], "harp run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_clear_error_and_write_nothing(here, capsys, arguments, words):
    before = files(here)
    said = refused(capsys, *arguments)
    assert words in said
    assert len(said.splitlines()) == 1
    assert files(here) == before


def test_an_unknown_key_in_a_recipe_names_the_nearest(here, capsys):
    (here / "mistyped.yaml").write_text("prune: {keeep: 0.01}\n")
    assert "no setting 'prune.keeep'; did you mean 'keep'" in refused(capsys, "run", "mistyped.yaml")


def test_a_checkpoint_of_another_model(here, capsys, dense):
    said = refused(capsys, "prune", "tiny.yaml", "--source", dense, "--model.width", "0.25")
    assert "another model" in said
    assert "0.weight is (4, 1, 3, 3) in the file and (8, 1, 3, 3)" in said
    assert files(here) == {Path("tiny.yaml")}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint(here, capsys, dense, share):
    data = dense.read_bytes()
    (here / "cut.safetensors").write_bytes(data[: int(share * len(data))])
    assert "not a whole safetensors file" in refused(capsys, "prune", "tiny.yaml", "--source", "cut.safetensors")
    assert not (here / "runs").exists()


def test_weights_that_are_not_numbers(here, capsys, dense):
    state = load_file(dense)
    state["0.weight"][0] = torch.nan
    save_file(state, here / "nan.safetensors")
    assert "0.weight holds NaN" in refused(capsys, "prune", "tiny.yaml", "--source", "nan.safetensors")


def test_a_pickle_is_not_loaded(here, capsys):
    torch.save({"0.weight": torch.zeros(1)}, here / "old.pt")
    assert "not a whole safetensors file" in refused(capsys, "prune", "tiny.yaml", "--source", "old.pt")


def test_pixels_that_are_not_numbers(here, capsys):
    images = numpy.random.default_rng(0).random((60, 1, 8, 8), dtype=numpy.float32)
    labels = numpy.arange(60) % 10
    images[7] = numpy.nan
    numpy.savez("bad.npz", train_images=images, train_labels=labels, test_images=images[8:], test_labels=labels[8:])
    said = refused(capsys, "run", "tiny.yaml", "--data.name", "arrays", "--data.path", "bad.npz")
    assert "NaN" in said
    assert "index 7" in said
    assert not (here / "runs").exists()


def test_a_diverging_loss_keeps_the_last_good_checkpoint(here, capsys):
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "tiny.yaml", "--folder", "run", "--pretrain.lr", "1e6", "--pretrain.checkpoint_every", "1it"])
    assert end.value.code == 2
    assert "lower learning rate" in capsys.readouterr().err
    assert not (here / "run" / "1-pretrain" / "done.json").exists()
    assert not (here / "run" / "1-pretrain" / "model.safetensors").exists()
    checkpoint = here / "run" / "1-pretrain" / "checkpoint.safetensors"
    if checkpoint.exists():
        assert all(torch.isfinite(value.float()).all() for value in load_file(checkpoint).values())


def test_a_network_from_a_file_of_ones_own(here):
    (here / "mine.py").write_text(
        "from torch import nn\n"
        "def net(classes, channels, size):\n"
        "    n = channels * size * size\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(n, 16), nn.ReLU(), nn.Linear(16, classes))\n"
    )
    main(["run", "tiny.yaml", "--model.name", "mine.py:net", "--model.width", "1", "--folder", "own"])
    assert int((load_file(here / "own" / "export" / "model.safetensors")["1.weight"] != 0).sum()) > 0


def test_what_the_system_refuses_ends_in_a_sentence(monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/somewhere")

    monkeypatch.setattr("harp.cli._call", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "harp: /tmp/somewhere: no space left on device\n"


def test_help_is_short_and_help_all_is_whole(capsys):
    for words, there, hidden in (
        (["run", "--help"], "--prune.keep", "--finetune.lr"),
        (["finetune", "--help"], "--finetune.lr", "--prune.lr"),
        (["evaluate", "digits_cnn", "--help"], "--evaluation.steps", "--prune.keep"),
        (["bench", "x", "--help"], "--threat.eps", "--prune.keep"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        told = capsys.readouterr().out
        assert end.value.code == 0
        assert there in told
        assert hidden not in told
        assert f"more settings: `harp {words[0]} --help-all`" in told
        with pytest.raises(SystemExit) as end:
            main([*words[:-1], "--help-all"])
        assert end.value.code == 0
        assert hidden in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["compare", "--help"]])
def test_help_waits_for_no_library(words):
    """A second of processor time is what a whole import of torch takes alone."""
    code = f"import sys; sys.argv[1:] = {words}; from harp.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    heavy = "print([m for m in ('torch', 'numpy', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_harp_loads_nothing_until_it_is_used():
    code = (
        "import sys, harp; print('torch' in sys.modules, len(dir(harp)) > 50); harp.PGD\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False True", "['torch']"]


@pytest.mark.parametrize("words", [["list"], ["arena", "grid.yaml"], ["evaluate", "small.safetensors"]])
def test_what_is_no_stage_of_a_recipe_is_refused_under_torchrun(monkeypatch, capsys, words):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert f"harp {words[0]} runs in one process; start it without torchrun" in capsys.readouterr().err
