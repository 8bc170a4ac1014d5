"""Packages to a folder and back, and to a stub of the hub and back; cards that say what is on record and no more."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import harp
from harp.cli import main
from harp.errors import HarpError
from harp.hub import card
from harp.package import Manifest, read
from harp.runs import write_json

from .stub import COMMIT, listening

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CELL = {"accuracy": 0.5, "low": 0.41, "high": 0.59, "n": 120}
TOLD: dict[str, Any] = {
    "n": 120,
    "examined": 64,
    "measures": {"clean": {**CELL, "accuracy": 0.9, "low": 0.83, "high": 0.94}, "apgd": CELL, "worst": CELL},
    "attacks": {"apgd": "APGD(steps=100)"},
    "doubts": [],
    "seed": 3,
    "judged": {"compared": 180, "different": 0},
}
ABOUT = {
    "prune": {"method": "hydra", "keep": 0.1},
    "data": {"name": "digits", "fingerprint": "ab" * 32},
    "recipe": {"name": "tiny", "identity": "12345678", "seed": 3},
    "versions": {"harp-pruning": "0.1.0", "pyautoattack": "0.2.0"},
}


def packed(path, told=TOLD, **more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()
    classes = tuple("abcdefghij")
    about = {"name": "net", "threat": harp.Threat(eps="8/255"), "evaluation": told, "provenance": ABOUT, **more}
    harp.pack(model, X, path, manifest=Manifest(classes=classes, **about))
    return model


def saved(tmp_path, **options):
    return (harp.save_pretrained(tmp_path / "p.safetensors", tmp_path / "out", **options) / "README.md").read_text()


def test_a_folder_gives_the_network_back(tmp_path):
    model = packed(tmp_path / "p.safetensors")
    text = saved(tmp_path, repository="me/net", licence="apache-2.0", base_model="me/dense")
    again = harp.from_pretrained(tmp_path / "out")
    assert torch.allclose(again(X), model(X), atol=1e-5)
    assert torch.allclose(again.module(X), model(X), atol=1e-5)
    fields = yaml.safe_load(text.split("---\n")[1])
    assert fields["library_name"] == "harp"
    assert (fields["license"], fields["base_model"], fields["datasets"]) == ("apache-2.0", "me/dense", ["digits"])
    assert {"pruned-by-hydra", "threat-Linf-8-255"} <= set(fields["tags"])


def test_the_card_tells_what_is_on_record(tmp_path):
    packed(tmp_path / "p.safetensors")
    text = saved(tmp_path)
    assert "| clean | 90.0 (83.0-94.0) | 120 | no attack |" in text
    assert "| worst | 50.0 (41.0-59.0) | 120 |" in text
    assert "APGD with steps 100" in text
    assert "pyautoattack 0.2.0; seed 3" in text
    assert "pruned by hydra to 10 %; meant to withstand L∞, eps = 8/255" in text
    assert "looked for on 64 images" in text
    assert "judged 0 of them otherwise" in text
    assert "license" not in text
    assert "## Time" not in text


def test_a_number_in_doubt_is_shown_as_one(tmp_path):
    doubt = {"name": "zero-gradients", "sentence": "No gradient anywhere.", "value": 1.0, "acknowledged": False}
    worst = {**CELL, "doubts": ["zero-gradients"]}
    told = {**TOLD, "measures": {**TOLD["measures"], "worst": worst}, "doubts": [doubt]}
    packed(tmp_path / "p.safetensors", told)
    text = saved(tmp_path)
    assert "| worst | in doubt: zero-gradients | 120 |" in text
    assert "**open doubt**: zero-gradients: No gradient anywhere." in text


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "No evaluation of this network is on record."),
        ({**TOLD, "examined": 0}, "**Nobody looked for signs of false robustness.**"),
    ],
)
def test_what_is_not_on_record_is_said_to_be_missing(told, said, tmp_path):
    packed(tmp_path / "p.safetensors", told)
    assert said in saved(tmp_path)


def test_what_a_file_claims_stays_text(tmp_path):
    packed(tmp_path / "p.safetensors", name="x](http://a) <script>\n# big", provenance={"data": {"name": "a\n---\nb"}})
    text = saved(tmp_path)
    assert "<script>" not in text.replace("\\<script", "")
    assert "\n# big" not in text
    assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))["datasets"] == ["a --- b"]
    packed(tmp_path / "q.safetensors", {**TOLD, "measures": {"clean": {**CELL, "accuracy": "high"}}})
    with pytest.raises(HarpError, match=r"package.safetensors.*accuracy"):
        card(read(tmp_path / "q.safetensors"), 1, "a/b", {})


def test_times_come_with_the_processor(tmp_path):
    packed(tmp_path / "p.safetensors")
    wall = {"wall": {"median": 0.00012, "p10": 0.0001}}
    found = {"environment": {"cpu": "A CPU"}, "threads": 1, "batches": {"1": {"harp": wall}}}
    write_json(tmp_path / "bench.json", found)
    text = saved(tmp_path, bench=tmp_path / "bench.json")
    assert "Median of wall time on A CPU, 1 thread(s)." in text
    assert "| 1 | harp | 0.12 |" in text
    write_json(tmp_path / "bench.json", {"threads": 1})
    with pytest.raises(HarpError, match="holds no times; expected what `harp bench NETWORK --out FILE` writes"):
        saved(tmp_path, bench=tmp_path / "bench.json")


def test_the_hub_takes_it_and_gives_it_back(tmp_path):
    packed(tmp_path / "p.safetensors")
    script = (
        "import harp, sys, torch\n"
        "print(harp.push_to_hub(sys.argv[1], 'me/net'))\n"
        "print(float(harp.from_pretrained('me/net')(torch.ones(1, 1, 8, 8)).sum()))\n"
        "try:\n    harp.from_pretrained('me/none')\n"
        "except harp.HarpError as error:\n    print(error)\n"
    )
    with listening() as hub:
        hub.files["me/net"] = {
            "code.py": b"raise SystemExit('run')",
            "config.json": b'{"auto_map": {"AutoModel": "code.M"}}',
        }
        place = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "XDG_STATE_HOME": str(tmp_path / "state")}
        environment = {**os.environ, **place, "HF_TOKEN": "hf_none", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-c", script, str(tmp_path / "p.safetensors")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        address, logits, refused = done.stdout.splitlines()
        assert address == f"{hub.address}/me/net/commit/{COMMIT}"
        assert float(logits) == pytest.approx(
            float(harp.load(tmp_path / "p.safetensors")(torch.ones(1, 1, 8, 8)).sum())
        )
        assert refused.startswith("package.safetensors of 'me/none' could not be fetched from the hub: ")
        assert set(hub.files["me/net"]) == {"README.md", "package.safetensors", "code.py", "config.json"}
        fetched = [path for path in hub.asked if "resolve" in path and "none" not in path]
    assert {path.rpartition("/")[2] for path in fetched} == {"package.safetensors"}


def test_a_dry_run_writes_a_folder(tmp_path, capsys):
    packed(tmp_path / "p.safetensors")
    main(["push", str(tmp_path / "p.safetensors"), "me/net", "--folder", str(tmp_path / "out"), "--licence", "mit"])
    assert capsys.readouterr().out == f"written, and nothing sent: {tmp_path / 'out'}\n"
    assert 'harp.from_pretrained("me/net")' in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "package.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda here: harp.from_pretrained(here), "holds no package.safetensors"),
        (lambda here: harp.from_pretrained("no folder"), "it would be called owner/name"),
        (lambda here: harp.save_pretrained(here, here / "out"), "is no package; `harp export` makes one"),
        (lambda here: harp.push_to_hub("x", "net"), "it would be called owner/name"),
    ],
)
def test_what_is_refused(call, said, tmp_path):
    with pytest.raises(HarpError, match=said):
        call(tmp_path)


def test_a_damaged_package_is_refused(tmp_path):
    packed(tmp_path / "p.safetensors")
    saved(tmp_path)
    path = tmp_path / "out" / "package.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(HarpError, match="damaged"):
        harp.from_pretrained(tmp_path / "out")
