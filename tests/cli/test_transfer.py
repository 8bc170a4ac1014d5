"""`harp evaluate NETWORK --transfer OTHER`: one more row, of images made against the other network."""

import json

import pytest

from harp.cli import main
from harp.stages import run_stages
from tests.cli.test_evaluate import FACTORY, refused
from tests.tiny import workspace

ASKED = ("--attacks", "fgsm", "--images", "60", "--doubts", "0", "--threat.eps", "0.1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    for name, seed in (("a", 0), ("b", 1)):
        pretrain = {"epochs": 4, "lr": 0.1, "objective": "natural"}
        trained = {"model": {"width": 0.25}, "data": {"train": 800}, "pretrain": pretrain}
        run_stages(workspace(folder / name, seed=seed, **trained), ("pretrain",))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_images_made_against_another_run_are_a_row_that_counts_and_goes_on(here, runs, capsys):
    kept = []
    for _ in range(2):
        main(["evaluate", str(runs / "a"), *ASKED, "--transfer", str(runs / "b")])
        assert "transfer-b-1-pretrain" in capsys.readouterr().out
        (folder,) = (here / "evaluations").iterdir()
        assert folder.name.endswith("-from-b-1-pretrain")
        kept.append({path: path.stat().st_mtime_ns for path in folder.glob("transfer-*")})
    assert kept[0] == kept[1]
    result = json.loads((folder / "result.json").read_text())
    row = result["measures"]["transfer-b-1-pretrain"]["accuracy"]
    assert result["measures"]["worst"]["accuracy"] <= row < result["measures"]["clean"]["accuracy"]
    assert result["attacks"]["transfer-b-1-pretrain"] == "Transferred(steps=20, name='b-1-pretrain', batch=250)"


def test_after_a_version_of_autoattack_it_is_tried_on_what_is_left(here, runs, capsys):
    main(["evaluate", str(runs / "a"), *ASKED[2:], "--images", "12", "--attacks", "rand", "--engine", "harp",
          "--transfer", str(runs / "b")])  # fmt: skip
    assert "after transfer-b-1-pretrain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("digits_cnn", "comes without weights"),
        ("net.py:wide", "a network of 11 logits for a data set of 10 classes"),
        ("gone.safetensors", "no file gone.safetensors"),
        ("w.safetensors", "lies in no run"),
    ],
)
def test_mistakes_end_in_one_clear_error(here, runs, capsys, target, words):
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, here / "w.safetensors")
    wide = FACTORY.replace("make(", "wide(").replace("return ", "import torch; torch.manual_seed(0)\n    return ")
    (here / "net.py").write_text(wide.replace(" classes))", " classes + 1))"))
    assert words in refused(capsys, "evaluate", runs / "a", *ASKED, "--transfer", target)
    assert not (here / "evaluations").exists()
    said = refused(capsys, "evaluate", runs / "a", *ASKED, "--transfer", runs / "b", "--transfer", runs / "b")
    assert "two networks are called b-1-pretrain" in said
