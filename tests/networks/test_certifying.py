"""Test images certified into a folder: resumed image by image, refused for others, told with intervals."""

import json

import pytest
import torch

from harp.certify import Certificate, Smoothed, Smoothing
from harp.cli import main
from harp.data import Images
from harp.errors import HarpError
from harp.networks.certifying import certify_run, summary, whole_steps
from harp.stages import run_stages
from tests.tiny import workspace

ASKED = Smoothing(0.25, samples=60, first=10, batch=20)


def work(folder, images=6):
    return workspace(folder, evaluation={"images": images})


def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(tmp_path, monkeypatch):
    whole = work(tmp_path / "whole")
    certify_run(whole, whole.model().eval(), ASKED, tmp_path / "whole", "net")
    begun = work(tmp_path / "begun")
    count = 0

    certify = Smoothed.certify

    def dying(self, image):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return certify(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(Smoothed, "certify", dying)
        with pytest.raises(KeyboardInterrupt):
            certify_run(begun, begun.model().eval(), ASKED, tmp_path / "begun", "net")
    certify_run(begun, begun.model().eval(), ASKED, tmp_path / "begun", "net")
    names = sorted(path.name for path in (tmp_path / "whole").glob("certified-*"))
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "begun" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_network_or_question_is_refused(tmp_path):
    here = work(tmp_path)
    certify_run(here, here.model().eval(), ASKED, tmp_path, "net")
    with pytest.raises(HarpError, match="record of another model"):
        certify_run(here, here.model("other").eval(), ASKED, tmp_path, "net")
    with pytest.raises(HarpError, match="record of another smoothing"):
        certify_run(here, here.model().eval(), Smoothing(0.5, samples=60, first=10, batch=20), tmp_path, "net")


def test_shares_count_what_is_right_and_proved():
    found = [Certificate(1, 9, 9, 0.5), Certificate(0, 9, 9, 0.7), Certificate(1, 5, 9, 0.0), Certificate(1, 9, 9, 0.2)]
    told = summary(found, torch.tensor([1, 1, 1, 1]), Smoothing(0.25))
    shares = {round(row["radius"], 2): row["share"] for row in told["certified"]}
    assert (shares[0.0], shares[0.25], shares[0.5], shares[0.75]) == (0.5, 0.25, 0.25, 0.0)
    assert told["abstained"]["share"] == 0.25
    assert told["undecided"]["share"] == 0


def test_images_between_steps_are_rounded_and_noted():
    images = Images(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    pixels, notes = whole_steps(images)
    assert pixels.dtype == torch.uint8
    assert pixels.unique().tolist() == [128]
    assert "by at most 0.004 in the 2-norm" in notes[0]
    again, none = whole_steps(Images(pixels, torch.tensor([0])))
    assert torch.equal(again, pixels)
    assert none == []


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_stages(workspace(tmp_path / "run"), ["pretrain"])
    words = ["certify", str(tmp_path / "run"), "--sigma", "0.1", "--samples", "50", "--images", "5", "--folder", "here"]
    main(words)
    told = json.loads((tmp_path / "here" / "certified.json").read_text())
    assert told["data"]["images"] == 5
    assert {path.suffix for path in (tmp_path / "here").glob("certified.*")} == {".json", ".png", ".svg"}
    assert told["smoothing"]["sigma"] == 0.1
    assert "wrong with a chance" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "--radius", "9"])
    assert "radius is 9; expected above 0 and below 8 sigma, 0.8" in capsys.readouterr().err


def test_a_package_is_asked_in_the_engine_and_proves_what_its_network_proves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_stages(workspace(tmp_path / "run", evaluation={"images": 5, "doubts": 0}))
    words = ["--sigma", "0.1", "--samples", "50", "--images", "5", "--data.name", "digits"]
    for folder, file in (("dense", "model"), ("engine", "package")):
        main(["certify", str(tmp_path / "run" / "export" / f"{file}.safetensors"), "--folder", folder, *words])
    told = [json.loads((tmp_path / folder / "certified.json").read_text()) for folder in ("dense", "engine")]
    assert told[0]["certified"] == told[1]["certified"]
    assert len(list((tmp_path / "engine").glob("certified-*.safetensors"))) == 5
