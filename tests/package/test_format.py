"""docs/format.md held to what it says: its examples, its list of operators, and a reader written from it alone."""

import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from harp.graph import Graph, Node, Ref
from harp.graph.operators import OPERATORS
from harp.package import Manifest, read, write
from harp.package.codec import DTYPES
from harp.package.container import HEADER, VERSION, load
from harp.package.document import ELEMENTS, PER_BYTE, TEXT
from harp.package.gaps import MOST_LOW, Code, decode
from harp.package.graphs import RANK
from harp.package.strict import DEEPEST
from harp.threats import Threat
from tests.package import reader
from tests.package.networks import bits, network, pruned

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
BLOCKS: list[str] = re.findall(r"```(?:json)?\n(.*?)```", DOCUMENT, re.DOTALL)


def block(holding: str) -> str:
    (found,) = (text for text in BLOCKS if holding in text)
    return found


def test_the_worked_example_of_positions():
    example = block("index      ")
    data = bytes.fromhex(example.split("index")[1])
    (said,) = re.findall(r"position (.*)", example)
    places = [int(word) for word in said.split()]
    (code,) = re.findall(r'has non-zeros at .*?`(\{"count".*?\})`', DOCUMENT, re.DOTALL)
    code = json.loads(code)
    assert len(data) == 3
    assert reader.positions(data, **code) == places == [3, 4, 17, 39]
    assert decode(Code(**code), numpy.frombuffer(data, numpy.uint8), 40).tolist() == places


def test_the_worked_example_of_a_file(tmp_path):
    nodes = (
        Node("flat", "flatten.using_ints", (Ref("x"), 1, -1)),
        Node("logits", "linear", (Ref("flat"), Ref("weight"), Ref("bias"))),
    )
    weight = torch.tensor([[0, 0, 1.5, 0], [0, 0, 0, 0]])
    tensors = {"weight": weight, "bias": torch.tensor([0.5, -1.0])}
    write(
        tmp_path / "a",
        Graph("x", (1, 2, 2), nodes, "logits", tensors),
        Manifest("example", ("dark", "bright"), threat=Threat(eps=0.125)),
    )
    contents = load(tmp_path / "a")
    assert json.loads(block('"about"')) == json.loads(zlib.decompress(contents.bytes("manifest")))
    told, header = json.loads(block("__metadata__")), json.loads(bytes(contents.buffer[8 : contents.start]))
    assert list(told) == list(header)
    # How long the manifest is depends on zlib, and with it the seal's place and two digests.
    for name in ("float32", "index"):
        assert told[name] == header[name]
        assert header["__metadata__"][f"sha256.{name}"].startswith(told["__metadata__"][f"sha256.{name}"][:4])
    last = DOCUMENT.split("The section `float32` holds")[1]
    assert [bytes.fromhex(part) for part in re.findall(r"`((?:[0-9a-f]{2}\s?)+)`", last)] == [
        bytes(contents.bytes("float32")),
        bytes(contents.bytes("index")),
    ]


def test_the_list_of_operators():
    assert set(block("sym_size.int").split()) == OPERATORS


def test_limits_dtypes_and_version():
    assert f"version {VERSION}\n" in DOCUMENT
    for limit in (f"{HEADER:,}", f"{TEXT:,}", f"{ELEMENTS:,}", f"{PER_BYTE} more", f"{DEEPEST} levels", f"{RANK} axes"):
        assert limit in DOCUMENT
    assert f"from 0 to {MOST_LOW}" in DOCUMENT
    row = next(line for line in DOCUMENT.splitlines() if line.startswith("| `float64`"))
    names, kinds = (re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:3])
    assert dict(zip(names, kinds, strict=True)) == DTYPES


@pytest.mark.parametrize("values", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("density", [0.03, 0.3, 0.9])
def test_a_reader_written_from_the_document_agrees(values, density, tmp_path):
    graph = network(density)
    others = {"count": torch.tensor(7), "none": torch.zeros(0, 3), "flags": torch.tensor([True, False])}
    others |= {"double": pruned((4, 9), density).double(), "half": pruned((50,), 0.1).to(torch.bfloat16)}
    graph = replace(graph, tensors={**graph.tensors, **others})
    write(tmp_path / "a", graph, Manifest("it", provenance={"seed": 0}), values)
    found, package = reader.File(tmp_path / "a"), read(tmp_path / "a")
    assert found.about["name"] == package.manifest.name
    assert found.graph["nodes"][1] == ["relu", "relu", [{"ref": "conv"}]]
    assert found.tensors.keys() == graph.tensors.keys()
    for name in graph.tensors:
        assert tuple(found.shapes[name]) == package.graph.tensors[name].shape
        assert found.tensors[name] == bits(package.graph.tensor(name)), name
