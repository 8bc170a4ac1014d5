"""`harp import`: what it writes and says, that evaluating and pruning go on from it, and what it refuses."""

import os
from pathlib import Path

import pytest
import torch

from harp.cli import main
from harp.models import MODELS
from harp.runs import load_tensors

MODEL = ("--model.width", "0.125")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = MODELS["digits_cnn"](classes=10, channels=1, size=8, width=0.125).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, "theirs.pt")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return " ".join(capsys.readouterr().out.split())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 2
    return capsys.readouterr().err


def scored() -> None:
    state = torch.load("theirs.pt", weights_only=True)["state_dict"]
    for name in [name for name, value in state.items() if value.ndim > 1]:
        state[name.replace("weight", "popup_scores")] = state[name]
    torch.save(state, "scored.pt")


def test_the_weights_are_counted_and_evaluated(here, capsys):
    out = said(capsys, "import", "theirs.pt", "--model", "digits_cnn", "--data=digits", *MODEL)
    # 4 of 1 x 3 x 3, 8 of 4 x 3 x 3, 16 of 8 x 3 x 3, 16 of 64, 10 of 16.
    assert "0.weight 4x1x3x3 36 100.00 %" in out
    assert "all 2,660 2,660 100.00 %" in out
    assert "weights: imported/theirs/model.safetensors no masks are in the file" in out
    assert os.listdir("imported/theirs") == ["model.safetensors"]
    attack = ("--attacks", "fgsm", "--images", "20", "--doubts", "0", "--folder", "record")
    out = said(capsys, "evaluate", "imported/theirs/model.safetensors", "--model.name", "digits_cnn", *MODEL, *attack)
    assert "record: record" in out


def test_masks_lie_beside_the_weights_and_runs_go_on_from_both(here, capsys):
    scored()
    out = said(
        capsys, "import", "scored.pt", "--model", "digits_cnn", *MODEL, "--keep", "0.25", "--out", "a/b.safetensors"
    )
    assert "0.weight 4x1x3x3 9 25.00 %" in out
    assert "all 2,660 665 25.00 %" in out
    masks, state = load_tensors(Path("a/masks.safetensors")), load_tensors(Path("a/b.safetensors"))
    assert {name: int(mask.sum()) for name, mask in masks.items()}["14.weight"] == 40
    assert all(not state[name][~mask].any() for name, mask in masks.items())
    tiny = ("--model.name", "digits_cnn", *MODEL, "--data.train", "100", "--evaluation.images", "20")
    quick = ("--evaluation.attacks", "fgsm", "--evaluation.doubts", "0", "--attack.steps", "1")
    said(
        capsys,
        "finetune",
        *tiny,
        *quick,
        "--finetune.source",
        "a/b.safetensors",
        "--finetune.epochs",
        "1",
        "--folder",
        "f",
    )
    trained = load_tensors(Path("f/3-finetune/model.safetensors"))
    assert all(not trained[name][~mask].any() for name, mask in masks.items())
    assert any(not torch.equal(trained[name], state[name]) for name in masks)
    said(capsys, "prune", *tiny, *quick, "--prune.source", "a/b.safetensors", "--prune.epochs", "1", "--folder", "p")
    assert Path("p/2-prune/masks.safetensors").is_file()


def test_normalisation_is_told_as_settings_that_take_the_file(here, capsys):
    state = torch.load("theirs.pt", weights_only=True)["state_dict"]
    state = {name.replace("module.", "model."): value for name, value in state.items()}
    torch.save({"normalize.mean": torch.tensor([0.3]), "normalize.std": torch.tensor([0.4]), **state}, "robust.pt")
    out = said(capsys, "import", "robust.pt", "--model", "digits_cnn", *MODEL)
    assert "say --model.mean 0.3 --model.std 0.4" in out
    attack = ("--attacks", "fgsm", "--images", "20", "--doubts", "0", "--folder", "record")
    settings = ("--model.name", "digits_cnn", *MODEL, "--model.mean", "0.3", "--model.std", "0.4")
    assert "record: record" in said(capsys, "evaluate", "imported/robust/model.safetensors", *settings, *attack)


def test_masks_of_another_network_are_not_taken_along(here, capsys):
    scored()
    said(capsys, "import", "scored.pt", "--model", "digits_cnn", *MODEL, "--keep", "0.25", "--out", "a/b.safetensors")
    again = ("--model", "digits_cnn", *MODEL, "--out")
    assert "holds the masks of another" in refused(capsys, "import", "theirs.pt", *again, "a/b.safetensors")
    other = refused(capsys, "import", "scored.pt", "--keep", "0.5", *again, "a/c.safetensors")
    assert "a/masks.safetensors holds the masks of another network" in other
    said(capsys, "import", "scored.pt", "--keep", "0.5", *again, "a/b.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("theirs.pt",), "--model NAME must say whose weights"),
        (("gone.pt", "--model", "digits_cnn"), "no file gone.pt"),
        (("theirs.pt", "--model", "digits_cnn"), "is [4, 1, 3, 3] there, and 0.weight is [32, 1, 3, 3] here"),
        (("theirs.pt", "--model", "digits_cn"), "did you mean 'digits_cnn'"),
        (("theirs.pt", "--model", "digits_cnn", *MODEL, "--keep", "0.1"), "holds no pruning scores"),
        (("theirs.pt", "--model", "digits_cnn", *MODEL, "--out", "a.pt"), "ends in .safetensors"),
        (("theirs.pt", "--model", "digits_cnn", "--kep", "1"), "did you mean '--keep'"),
        (("theirs.pt", "--model", "digits_cnn", "--keep", "few"), "argument --keep: invalid"),
    ],
)
def test_mistakes_end_in_one_clear_error_and_write_nothing(here, capsys, arguments, words):
    assert words in refused(capsys, "import", *arguments)
    assert os.listdir(here) == ["theirs.pt"]
