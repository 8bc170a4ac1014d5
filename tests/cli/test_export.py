"""`harp export`, `verify`, `inspect`, `evaluate` and `bench` on networks and packages."""

import json

import onnx
import pytest

from harp.cli import main
from harp.export import load
from harp.stages import run_stages
from tests.tiny import workspace

SHORT = {name: {"epochs": 1} for name in ("pretrain", "prune", "finetune")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    run_stages(workspace(folder, **SHORT, evaluation={"attacks": ["fgsm"], "doubts": 0}))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.safetensors").write_bytes((run / "export" / "package.safetensors").read_bytes())
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_run_is_packed_with_its_record(here, run, capsys):
    words = ("--values", "fp16", "--onnx", "true", "--vnnlib", "20", "--out", "small.safetensors")
    out = said(capsys, "export", run, *words)
    assert "package: small.safetensors" in out
    assert "judged by the package: " in out
    assert "onnx: small.onnx" in out
    assert load("small.safetensors").manifest.values == "fp16"
    onnx.checker.check_model("small.onnx")
    properties = len(list((here / "small.vnnlib" / "vnnlib").iterdir()))
    assert f"vnnlib: small.vnnlib, properties of {properties} of 20 images; {20 - properties} are left out" in out
    assert len((here / "small.vnnlib" / "instances.csv").read_text().splitlines()) == properties
    assert "small.vnnlib is not empty" in refused(capsys, "export", run, *words)


def test_any_network_is_packed_under_a_name_of_its_own(here, run, capsys):
    out = said(capsys, "export", run / "1-pretrain" / "model.safetensors")
    assert "package: run-1-pretrain.package.safetensors" in out
    assert "judged" not in out
    out = said(capsys, "export", "digits_cnn", "--model.width", "0.125", "--threat.eps", "0.2")
    assert "package: digits_cnn.package.safetensors" in out
    threat = load("digits_cnn.package.safetensors").threat
    assert threat is not None
    assert threat.eps == 0.2
    said(capsys, "export", "digits_cnn", "--model.width", "0.125", "--out", "untold.safetensors")
    assert load("untold.safetensors").threat is None


def test_a_package_in_a_run_is_verified_against_the_run(run, capsys):
    out = said(capsys, "verify", run / "export" / "package.safetensors")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ok", name] for name in ("checksums:", "structure:", "budget:", "engine:", "source", "weights:", "logits:")
    ]


def test_a_package_elsewhere_is_verified_by_itself_or_against_what_is_named(here, run, capsys):
    out = said(capsys, "verify", "p.safetensors")
    assert out.count("ok ") == 4
    assert "--source RUN names it" in out
    assert said(capsys, "verify", "p.safetensors", "--source", run).count("ok ") == 7
    with pytest.raises(SystemExit) as end:
        main(["verify", "p.safetensors", "--source", str(run / "2-prune" / "model.safetensors")])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out.count("FAILED") == 3
    assert "p.safetensors failed: source file, weights, logits" in captured.err


def test_a_damaged_package_fails_its_checks(here, capsys):
    data = bytearray((here / "p.safetensors").read_bytes())
    data[len(data) // 2] ^= 4
    (here / "p.safetensors").write_bytes(data)
    assert "p.safetensors failed: checksums" in refused(capsys, "verify", "p.safetensors")


def test_a_package_is_inspected(here, capsys):
    out = said(capsys, "inspect", "p.safetensors")
    assert "digits_cnn, images 1x8x8" in out
    assert "266 of 2,660 weights kept, 266 promised" in out
    assert "10 classes: 0, 1, 2" in out
    assert "L-inf, eps 0.1" in out
    assert "said to be right, fgsm" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_package_is_evaluated_by_attacks_without_gradients(here, capsys):
    quick = ("--images", "6", "--doubts", "0", "--folder", "record")
    said(capsys, "evaluate", "p.safetensors", "--attacks", "square", "--engine", "harp", *quick)
    result = json.loads((here / "record" / "result.json").read_text())
    assert result["threat"]["eps"] == "0.1"
    assert set(result["measures"]) == {"clean", "square", "worst"}


def test_a_benchmark_is_printed_and_written(here, capsys):
    out = said(capsys, "bench", "p.safetensors", "--batch", "2", "--rounds", "1", "--no-memory", "--out", "b.json")
    for words in ("p, 1 thread, 1 round", "batch 2", "OpenVINO f32", "faster", "the package"):
        assert words in out
    assert max(len(line) for line in out.splitlines() if "┃" in line or "│" in line) <= 80
    found = json.loads((here / "b.json").read_text())
    assert found["network"] == "p"
    assert set(found["batches"]["2"]) == {"harp", "harp fp16", *found["baselines"]}
    assert (here / "b.png").read_bytes().startswith(b"\x89PNG")
    assert (here / "b.svg").exists()


def test_a_run_is_judged_on_the_images_it_was_evaluated_on(here, run, capsys):
    """60 of the 449 in the test set."""
    out = said(capsys, "bench", run, "--batch", "1", "--rounds", "1", "--no-memory")
    assert "on the images on record" in out
    assert "accuracies are told where" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "p.safetensors"), "p.safetensors is a package already"),
        (("export", "gone.safetensors"), "no file gone.safetensors"),
        (("export", "digits_cnn", "--values", "fp8"), "'fp32', 'fp16', 'bf16' or 'int8', got 'fp8'"),
        (("export", "digits_cnn", "--vnnlib", "0"), "--vnnlib 0: expected a whole number of at least 1"),
        (("export", "digits_cnn", "--vnnlib", "2", "--threat.norm", "2"), "VNN-LIB properties hold boxes"),
        (("export", "digits_cnn", "--valeus", "fp16"), "did you mean '--export.values'"),
        (("verify", "gone.safetensors"), "no file gone.safetensors"),
        (("verify", "p.safetensors", "--source", "digits_cnn"), "expected a run's folder, or a file of weights"),
        (("verify",), "required: file"),
        (("inspect", "p.safetensors", "--keep", "0.1"), "a package is inspected as it is"),
        (("inspect", "gone.safetensors"), "gone.safetensors: there is no such file"),
        (("bench", "digits_cn"), "no model 'digits_cn'"),
        (("bench", "p.safetensors", "--batch", "1,0"), "argument --batch: invalid"),
        (("bench", "p.safetensors", "--rounds", "0"), "--rounds 0: expected a whole number of at least 1"),
        (("bench", "p.safetensors", "--rounds", str(10**400)), "--rounds: expected at most 1,000,000, got far more"),
        (("bench", "p.safetensors", "--batch", f"1,{10**30}"), "--batch: expected at most 100,000, got far more"),
        (("bench", "p.safetensors", "--device", "cuda"), "device: expected cpu"),
        (("bench", "p.safetensors", "--thraeds", "2"), "did you mean '--threads'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_end_in_one_clear_error_and_write_nothing(here, capsys, arguments, words):
    before = sorted(here.rglob("*"))
    assert words in refused(capsys, *arguments)
    assert sorted(here.rglob("*")) == before
