"""The README's Python runs, on a user's own network and loaders."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import harp
from harp.cli.completion import gathered
from harp.cli.recipes import asked
from harp.config import make_recipe, write_recipe
from harp.data import load
from tests.pages import ROOT, TRAINING, code, commands, fresh, is_network
from tests.tiny import tiny

PAGE = ROOT / "README.md"
README = PAGE.read_text()
BLOCKS = code(PAGE)
COMMANDS = [words for block in code(PAGE, "console") for words in commands(block) if words[0] == "harp"]


def test_the_first_lines_prune_a_network_of_ones_own(capsys):
    digits = load("digits")
    loader = [(digits.train.images[:64] / 255, digits.train.labels[:64])]
    test_loader = [(digits.test.images[:32] / 255, digits.test.labels[:32])]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    scope: dict[str, Any] = {"model": model, "loader": loader, "test_loader": test_loader}
    with pytest.warns(harp.SearchWarning, match="looks untrained"):
        exec(compile(BLOCKS[0].replace('eps="8/255"', 'eps="8/255", epochs=1'), "README.md", "exec"), scope)
    assert f"{round(0.01 * (2048 + 320))} of 2,368" in capsys.readouterr().out


def test_the_library_example_prunes_a_network_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = load("digits")

    def loader(images, n):
        pixels = images.images[:n].float() / 255
        return DataLoader(TensorDataset(pixels, images.labels[:n]), batch_size=64)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 10))
    scope = {"model": model, "loader": loader(digits.train, 192), "test_loader": loader(digits.test, 64)}
    exec(compile(BLOCKS[3].replace("20 * epoch", "2 * epoch"), "README.md", "exec"), scope)
    exported = load_file("small/model.safetensors")
    kept = sum(int(exported[site.name].count_nonzero()) for site in harp.find_sites(model))
    assert kept == round(0.01 * (288 + 11520)) == 118
    assert scope["kept"].masks.kept == kept

    # The next block prunes channels of the same network; what its images look like is the README's reader's affair.
    block = BLOCKS[4].replace("20 * epoch", "2 * epoch").replace("1, 3, 32, 32", "1, 1, 8, 8")
    exec(compile(block, "README.md", "exec"), scope)
    macs = {net: sum(harp.trace_macs(scope[net], torch.rand(1, 1, 8, 8)).values()) for net in ("model", "small")}
    assert macs == {"model": 36 * 288 + 11520, "small": 16 * (36 * 9 + 360)}


def test_the_counting_example_counts(tmp_path):
    from harp.stages import run_stages
    from tests.tiny import workspace

    run_stages(workspace(tmp_path))
    said = fresh(BLOCKS[2], str(tmp_path)).split()
    masks = load_file(tmp_path / "export" / "masks.safetensors")
    total = sum(mask.numel() for mask in masks.values())
    assert said == [str(round(0.1 * total)), "of", str(total)]


def test_the_package_of_a_run_answers(tmp_path, capsys):
    from harp.stages import run_stages
    from tests.tiny import workspace

    run_stages(workspace(tmp_path), ("pretrain", "prune", "finetune", "export"))
    scope: dict[str, Any] = {"harp": harp, "images": load("digits").test.images[:5].numpy() / 255}
    exec(compile(BLOCKS[1].replace("runs/a", str(tmp_path)), "README.md", "exec"), scope)
    expected = harp.load_model(str(tmp_path))(torch.from_numpy(scope["images"]).float())
    assert numpy.allclose(scope["logits"], expected.detach(), atol=1e-5)
    assert "Counts(weights=2660, budget=266, nominal=266, " in capsys.readouterr().out


def test_the_loop_of_ones_own_prunes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    digits = load("digits").train
    loader = DataLoader(TensorDataset(digits.images[:64] / 255, digits.labels[:64]), batch_size=32)
    scope: dict[str, Any] = {"model": model, "loader": loader, "harp": harp, "cross_entropy": cross_entropy}
    scope |= {"attack": harp.PGD(steps=2), "threat": harp.Threat(eps=0.1), "noise": torch.Generator()}
    exec(compile(BLOCKS[5], "README.md", "exec"), scope)
    assert scope["search"].learned.epoch == 1
    masks = scope["search"].settle()
    assert sum(int(model.state_dict()[name].count_nonzero()) for name in masks) == round(0.01 * masks.total)


@pytest.mark.slow
def test_the_evaluation_of_a_run(tmp_path):
    from harp.stages import run_stages
    from tests.tiny import workspace

    run_stages(workspace(tmp_path / "run"), ("pretrain",))
    block = BLOCKS[6].replace("runs/a", str(tmp_path / "run")).replace("cifar10", "digits")
    digits = load("digits").test
    scope: dict[str, Any] = {"harp": harp, "test": [(digits.images[:16] / 255, digits.labels[:16])]}
    exec(compile(block.replace("n_examples=1000", "n_examples=16, doubts=0"), "README.md", "exec"), scope)
    assert scope["robust"] <= scope["clean"]
    assert list(scope["found"].flags) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square", "worst"]


def test_the_commands_exist():
    named = {
        "run",
        "prune",
        "evaluate",
        "export",
        "verify",
        "bench",
        "compare",
        "arena",
        "tune",
        "inspect",
        "list",
        "plan",
        "watch",
        "certify",
        "completion",
        "push",
    }
    assert {words[1] for words in COMMANDS} == named


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_understood(words, tmp_path, monkeypatch):
    """Its flags exist, and its settings are those of a recipe; what they name may be elsewhere."""
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_bytes(write_recipe(tiny()))
    _, command, *rest = words
    if command in (*TRAINING, "plan") and not is_network(command, (rest or ["-"])[0]) and rest[:1] != ["runs/a"]:
        if {"--help", "--help-all"} & set(rest):
            return
        make_recipe(asked(command, rest).values)
    elif (found := gathered(command, rest)) is not None:
        _, unknown = found.parser.parse_known_args(found.arguments)
        assert not unknown
    else:
        assert command == "list"
