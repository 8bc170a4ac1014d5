"""`harp evaluate` on networks: from a run, from a file of weights, from a factory."""

import json

import pytest
from safetensors.torch import load_file, save_file

from harp.cli import main
from harp.stages import run_stages
from tests.pace import quick
from tests.tiny import workspace

FACTORY = """
from torch import nn
def make(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""
QUICK = ("--engine", "harp", "--attacks", "rand", "--images", "10", "--doubts", "0")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    run_stages(workspace(folder, pretrain={"epochs": 1}), ("pretrain",))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_run_is_evaluated_once(here, run, capsys):
    for _ in range(2):
        main(["evaluate", str(run), "--folder", "record", *QUICK])
        said = capsys.readouterr().out
        assert "after apgd-dlr" in said
        assert "record: record" in said
    result = json.loads((here / "record" / "result.json").read_text())
    assert result["threat"]["eps"] == "0.1"  # the run's own
    assert result["n"] == 10


def test_a_factory_and_a_state_dict(here, run, capsys):
    (here / "net.py").write_text(FACTORY)
    state = load_file(run / "1-pretrain" / "model.safetensors")
    refused(capsys, "evaluate", "net.py:make", "--weights", run / "1-pretrain" / "model.safetensors", *QUICK)
    assert "0.weight" in state
    import torch

    save_file({"1.weight": torch.rand(10, 64), "1.bias": torch.zeros(10)}, here / "w.safetensors")
    main(["evaluate", "net.py:make", "--weights", "w.safetensors", "--threat.eps", "8/255", *QUICK])
    (result,) = (here / "evaluations").glob("make-w-*/result.json")
    assert json.loads(result.read_text())["threat"]["eps"] == "8/255"
    assert "eps 8/255" in capsys.readouterr().out


def test_the_published_eps_is_printed_as_it_was_asked_for(here, run, capsys):
    main(["evaluate", str(run), "--threat.eps", "0.031", "--folder", "record", *QUICK])
    assert "eps 0.031" in capsys.readouterr().out


def test_a_record_of_another_eps_is_refused(here, run, capsys):
    main(["evaluate", str(run), "--folder", "record", *QUICK])
    said = refused(capsys, "evaluate", run, "--folder", "record", "--threat.eps", "0.05", *QUICK)
    assert "another threat" in said


def test_an_open_doubt_is_told_in_the_numbers_place(here, run, capsys):
    more = ("--engine", "harp", "--attacks", "apgd-ce", "--images", "100", "--doubts", "0", "--bf16", "true")
    main(["evaluate", str(run), "--folder", "record", "--threat.eps", "0.001", *more])
    said = capsys.readouterr().out
    assert "in doubt" in said
    # Nobody can look into a coarser search, so it is none to acknowledge.
    assert "No robust accuracy is quoted while a doubt is open: search in float32" in said
    assert "not examined for false robustness" in said


@pytest.mark.parametrize(
    "more",
    quick(
        [("--acknowledge", "randomness"), ("--export.onnx", "true")],
        [
            ("--acknowledge", "randomness"),
            ("--curve", "4"),
            ("--threads", "1"),
            ("--name", "other"),
            ("--device", "cpu"),
            ("--export.onnx", "true"),
            ("--prune.keep", "0.5"),
        ],
    ),
)
def test_what_decides_no_verdict_goes_on_in_the_same_folder(here, run, more):
    main(["evaluate", str(run), *QUICK])
    (folder,) = (here / "evaluations").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("apgd*")}
    main(["evaluate", str(run), *QUICK, *more])
    assert [path.name for path in (here / "evaluations").iterdir()] == [folder.name]
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("apgd*")} == before


@pytest.mark.parametrize(
    "more",
    quick([("--threat.eps", "0.05")], [("--seed", "1"), ("--threat.eps", "0.05"), ("--evaluation.batch_size", "5")]),
)
def test_what_decides_verdicts_gets_a_folder_of_its_own(here, run, more):
    main(["evaluate", str(run), *QUICK])
    main(["evaluate", str(run), *QUICK, *more])
    assert len(list((here / "evaluations").iterdir())) == 2


def test_untrained_weights_are_measured_only_where_they_are_meant(here, capsys):
    said = refused(capsys, "evaluate", "digits_cnn", *QUICK)
    assert "digits_cnn comes without weights" in said
    assert "--weights random" in said
    assert not (here / "evaluations").exists()
    main(["evaluate", "digits_cnn", "--weights", "random", "--model.width", "0.125", *QUICK])
    assert "record: evaluations/digits_cnn-" in capsys.readouterr().out


def test_a_factory_that_brings_its_weights_is_measured(here, capsys):
    (here / "net.py").write_text(FACTORY.replace("return ", "import torch\n    torch.manual_seed(3)\n    return "))
    main(["evaluate", "net.py:make", *QUICK])
    assert "record:" in capsys.readouterr().out


def test_a_mended_file_never_meets_an_old_record(here, capsys):
    mended = FACTORY.replace("return ", "import torch\n    torch.manual_seed(3)\n    return ")
    own = "class Net(nn.Sequential):\n    def forward(self, x):\n        return super().forward(x){}\ndef make"
    for by in ("", " + 0"):
        text = mended.replace("def make", own.format(by)).replace("nn.Sequential(nn.F", "Net(nn.F")
        (here / "net.py").write_text(text)
        if not by:
            main(["evaluate", "net.py:make", *QUICK])
    assert "record of another code, of Net.forward" in refused(capsys, "evaluate", "net.py:make", *QUICK)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits_cnn", "--threat.eps", "8"], "did you mean 8/255"),
        (["gone.safetensors"], "no file gone.safetensors"),
        (["net.py:make"], "there is no file net.py"),
        (["digits_cnn", "--attacks", "standrad"], "did you mean 'standard'"),
        (["digits_cnn", "--attacks", "pgd", "--engine", "official"], "no attack 'pgd'"),
        (["digits_cnn", "--engine", "foolbox"], "evaluation.engine"),
        (["digits_cnn", "--acknowledge", "nothing", "--engine", "harp"], "no doubt 'nothing'"),
        (["digits_cnn", "--wieghts", "w.safetensors"], "did you mean '--weights'"),
    ],
)
def test_mistakes_end_in_one_clear_error(here, capsys, arguments, words):
    assert words in refused(capsys, "evaluate", *arguments)
    assert not (here / "evaluations").exists()


def test_adversarial_images_are_saved_for_numpy(here, run, capsys):
    import numpy

    main(["evaluate", str(run), "--folder", "record", *QUICK, "--save-images", "out/images.npz"])
    assert "adversarial images: out/images.npz" in capsys.readouterr().out
    with numpy.load("out/images.npz", allow_pickle=False) as file:
        assert file["images"].shape == (10, 1, 8, 8)
        assert len(set(file["index"].tolist())) == 10
        from harp.data import load

        assert load("digits").test.labels[file["index"]].tolist() == file["labels"].tolist()
    assert "expected a name that ends in .npz" in refused(capsys, "evaluate", run, "--save-images", "images.pt")


def test_natural_corruptions_are_a_table_of_their_own_and_no_part_of_worst(here, run, capsys):
    main(["evaluate", str(run), "--folder", "record", *QUICK, "--corruptions", "fog,contrast"])
    said = capsys.readouterr().out
    assert "no part of worst" in " ".join(said.split())
    assert "fog" in said
    first = json.loads((here / "record" / "result.json").read_text())
    assert first["corruptions"]["kinds"].keys() == {"fog", "contrast"}
    kept = {path: path.stat().st_mtime_ns for path in (here / "record" / "corruptions").glob("fog-*")}
    main(["evaluate", str(run), "--folder", "record", *QUICK, "--corruptions", "all"])
    second = json.loads((here / "record" / "result.json").read_text())
    assert len(second["corruptions"]["kinds"]) == 12
    assert second["corruptions"]["kinds"]["fog"] == first["corruptions"]["kinds"]["fog"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    main(["evaluate", str(run), "--folder", "record", *QUICK])
    third = json.loads((here / "record" / "result.json").read_text())
    assert third["corruptions"] == second["corruptions"]
    assert third["measures"] == first["measures"]
    said = refused(capsys, "evaluate", run, "--folder", "new", *QUICK, "--corruptions", "fogg")
    assert "no corruption 'fogg'; did you mean 'fog'" in said
    assert not (here / "new").exists()


NOISY = """
import torch
from torch import nn
class Noisy(nn.Module):
    def __init__(self, classes, pixels):
        super().__init__()
        self.linear = nn.Linear(pixels, classes)
    def forward(self, x):
        return self.linear(x.flatten(1) + 0.02 * torch.randn(len(x), x[0].numel()))
def make(classes, channels, size):
    torch.manual_seed(0)
    return Noisy(classes, channels * size * size)
"""


def test_a_network_that_draws_random_numbers_gets_a_number_with_its_doubt(here, capsys):
    (here / "net.py").write_text(NOISY)
    looked_into = ("--acknowledge", "constant-answer,unconverged,chance,large-eps")  # it is untrained
    quick = ("--attacks", "fgsm", "--images", "20", "--threat.eps", "0.1", "--doubts", "16")
    asked = ("net.py:make", *quick, *looked_into)
    main(["evaluate", *asked])
    assert "in doubt: randomness" in " ".join(capsys.readouterr().out.split())
    main(["evaluate", *asked, "--eot", "4", "--folder", "record"])
    said = " ".join(capsys.readouterr().out.split())
    assert "beside the number: randomness:" in said
    assert "an image counts as right where all of 4 answers are" in said
    assert json.loads((here / "record" / "asked.json").read_text())["draws"] == 4
    assert json.loads((here / "record" / "result.json").read_text())["robust"] is not None
