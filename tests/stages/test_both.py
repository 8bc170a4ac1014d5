"""Channels first, then weights inside what is left, under one budget: shares of the network before any went."""

import numpy
import pytest
from safetensors.numpy import load_file

from harp.cli import main
from harp.errors import HarpError
from harp.networks.named import dense_of, find_network
from harp.report import REPORT
from harp.runs import read_json
from harp.stages import run_stages
from tests.stages.test_runner import run_killed_at
from tests.tiny import results, workspace

SHORT = {"epochs": 1}
CHANNELS = {"prune": {"granularity": "channels", "keep": 0.4, **SHORT}}
BOTH: dict[str, object] = {
    "stages": ["pretrain", CHANNELS, "finetune", "prune", "finetune"],
    "pretrain": SHORT,
    "prune": {"epochs": 2, "keep": 0.1},
    "finetune": SHORT,
    "evaluation": {"attacks": ["fgsm"], "doubts": 0, "images": 40},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    run_stages(workspace(folder, **BOTH))
    return folder


def weights_of(path):
    return {name: value for name, value in load_file(path).items() if name.endswith("weight") and value.ndim > 1}


def test_the_budget_is_of_the_network_before_channels_went_and_exact(finished):
    dense, small = (weights_of(finished / stage / "model.safetensors") for stage in ("1-pretrain", "2-prune"))
    exported = weights_of(finished / "export" / "model.safetensors")
    assert {name: value.shape for name, value in exported.items()} == {name: v.shape for name, v in small.items()}
    total, left = (sum(value.size for value in found.values()) for found in (dense, small))
    assert left < 0.6 * total
    assert sum(map(numpy.count_nonzero, exported.values())) == round(0.1 * total)
    masks = load_file(finished / "4-prune" / "masks.safetensors")
    assert all((exported[name][~mask] == 0).all() for name, mask in masks.items())
    shared = read_json(finished / "4-prune" / "allocation.json")
    assert (shared["whole"], shared["total"], shared["price"]) == (total, left, round(0.1 * total))
    assert read_json(finished / "2-prune" / "allocation.json")["whole"] is None
    manifest = read_json(finished / "export" / "manifest.json")
    assert (manifest["total"], manifest["kept"]) == (total, round(0.1 * total))


def test_every_network_on_the_way_is_measured_by_what_is_left_of_it(finished):
    found = read_json(finished / "evaluation" / "results.json")["models"]
    total = found["dense"]["kept"]
    small = sum(value.size for value in weights_of(finished / "2-prune" / "model.safetensors").values())
    assert [one["kept"] for one in found.values()] == [total, small, small, round(0.1 * total), round(0.1 * total)]
    assert {one["total"] for one in found.values()} == {total}
    macs = [one["macs"] for one in found.values()]
    assert macs[0] > macs[1] == macs[2] > macs[3] == macs[4]
    assert macs[1] == read_json(finished / "2-prune" / "allocation.json")["price"] <= round(0.4 * macs[0])


def test_pages_package_and_bench_know_both(finished, capsys):
    text = (finished / REPORT).read_text()
    assert "Channels that went before had left" in text
    assert "The pruned network has" not in text  # nothing on record contradicts another
    main(["verify", str(finished / "export" / "package.safetensors")])
    told = capsys.readouterr().out
    assert "FAILED" not in told
    assert "ok     weights" in told
    before = dense_of(find_network(str(finished)))
    assert before is not None
    assert before.weights == finished / "1-pretrain" / "model.safetensors"


@pytest.mark.slow
def test_a_killed_search_among_what_is_left_goes_on(finished, tmp_path, monkeypatch):
    run_killed_at(tmp_path, monkeypatch, "prune-2", 5, **BOTH)
    run_stages(workspace(tmp_path, **BOTH))
    assert results(tmp_path) == results(finished)


def test_multiply_accumulates_are_counted_likewise(finished, tmp_path):
    stages = [CHANNELS, {"prune": {"of": "macs", "keep": 0.05, "method": "magnitude"}}]
    source = str(finished / "1-pretrain" / "model.safetensors")
    sections = {**BOTH, "stages": stages, "prune": {**SHORT, "source": source}}
    run_stages(workspace(tmp_path, **sections))
    (dense, _, last) = read_json(tmp_path / "evaluation" / "results.json")["models"].values()
    assert 0.99 * round(0.05 * dense["macs"]) < last["macs"] <= round(0.05 * dense["macs"])


def test_more_than_channels_left_is_refused_by_the_whole_networks_numbers(finished, tmp_path):
    source = str(finished / "1-pretrain" / "model.safetensors")
    sections = {**BOTH, "stages": [CHANNELS, "prune"], "prune": {"keep": 0.9, "source": source, **SHORT}}
    with pytest.raises(HarpError, match=r"keep: 0\.9 of the whole network's [\d,]+ parameters is .* left only"):
        run_stages(workspace(tmp_path, **sections))
