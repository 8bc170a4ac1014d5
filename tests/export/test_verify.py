from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from harp.export import Source, pack, verify
from harp.package import Manifest, read, write
from harp.runs import file_digest
from tests.attacks.linear import images
from tests.export.test_bake import pruned


@pytest.fixture
def made(tmp_path):
    """A package, and the source it was made from."""
    model, weights, path = pruned()[0], tmp_path / "model.safetensors", tmp_path / "package.safetensors"
    save_file(model.state_dict(), weights)
    pack(model, images(4), path, manifest=Manifest(provenance={"source": {"sha256": file_digest(weights)}}))
    return path, Source(model, weights, images(6))


def verdicts(path, source=None):
    return {check.name: check.passed for check in verify(path, source)}


ALL = ["checksums", "structure", "budget", "engine", "source file", "weights", "logits"]


def test_a_package_passes_every_check(made):
    path, source = made
    assert verdicts(path, source) == dict.fromkeys(ALL, True)
    assert verdicts(path) == dict.fromkeys(ALL[:4], True)


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
def test_rounded_weights_are_those_of_the_rounded_source(made, values):
    path, source = made
    manifest = read(path).manifest
    pack(source.model, images(4), path, values, manifest)
    assert verdicts(path, source) == dict.fromkeys(ALL, True)


def test_a_damaged_file_fails_at_once(made):
    path, source = made
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    assert verdicts(path, source) == {"checksums": False}


def test_more_weights_than_the_manifest_says_are_noticed(made):
    path, source = made
    package = read(path)
    counts, said = package.manifest.counts, package.manifest.provenance
    assert counts is not None
    write(path, package.graph, replace(package.manifest, provenance={**said, "nonzeros": said["nonzeros"] - 1}))
    assert [name for name, passed in verdicts(path, source).items() if not passed] == ["budget"]
    write(path, package.graph, replace(package.manifest, counts=replace(counts, budget=counts.nominal - 1)))
    assert [name for name, passed in verdicts(path, source).items() if not passed] == ["budget"]


def test_another_source_is_noticed(made):
    path, source = made
    other = pruned()[0]
    with torch.no_grad():
        other[4].bias += 1
    save_file(other.state_dict(), source.weights)
    found = verdicts(path, replace(source, model=other))
    assert [name for name, passed in found.items() if not passed] == ["source file", "weights", "logits"]


def test_a_graph_that_cannot_be_run_fails_before_it_is(made, monkeypatch):
    path, source = made
    package = read(path)
    node = package.graph.nodes[0]
    broken = replace(package.graph, nodes=(replace(node, op="system"), *package.graph.nodes[1:]))
    with monkeypatch.context() as patch:
        patch.setattr("harp.package.files.check", lambda graph: None)
        write(path, broken, package.manifest)
    found = verdicts(path, source)
    assert list(found.values())[-1] is False
    assert "engine" not in found


def test_a_manifest_without_a_promise_says_so(made):
    path, _ = made
    write(path, read(path).graph, Manifest())
    (budget,) = (check for check in verify(path) if check.name == "budget")
    assert budget.passed
    assert "promises no number" in budget.found
