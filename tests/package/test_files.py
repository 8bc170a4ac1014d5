import json
import random
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
import torch

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, Sparse, run
from harp.package import Counts, Manifest, check_file, read, sizes, write
from harp.package.container import Contents, pack
from harp.package.document import TEXT
from harp.threats import Threat
from tests.package.networks import bits, network, pruned, resealed

MANIFEST = Manifest("tiny", ("a", "b", "c", "d"), threat=Threat(), counts=Counts(496, 50, 50, 48))
IMAGES = torch.rand(7, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "a.safetensors", network(), MANIFEST)
    return tmp_path / "a.safetensors"


def test_a_package_is_the_network_bit_for_bit(path):
    package, graph = read(path), network()
    assert isinstance(package.graph.tensors["conv.weight"], Sparse)
    assert replace(package.graph, tensors={}) == replace(graph, tensors={})
    assert list(package.graph.tensors) == list(graph.tensors)
    for name in graph.tensors:
        assert bits(package.graph.tensor(name)) == bits(graph.tensor(name))
    assert torch.equal(run(package.graph, IMAGES), run(graph, IMAGES))
    assert package.manifest == MANIFEST
    assert check_file(path) == ()


def test_same_arguments_same_bytes(path, tmp_path):
    write(tmp_path / "b", network(), MANIFEST)
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    package = read(path)
    write(tmp_path / "c", package.graph, package.manifest)
    assert (tmp_path / "c").read_bytes() == path.read_bytes()
    assert read(tmp_path / "c").seal == package.seal


@pytest.mark.parametrize(("values", "width"), [("fp16", 2), ("bf16", 2), ("int8", 1)])
def test_lossy_values_are_asked_for_and_only_weights(values, width, tmp_path):
    graph = network()
    found = write(tmp_path / "a", graph, MANIFEST, values)
    package = read(tmp_path / "a")
    assert package.manifest.values == values
    for name in graph.tensors:
        equal = bits(package.graph.tensor(name)) == bits(graph.tensor(name))
        assert equal == name.endswith("bias")
    logits = run(graph, IMAGES)
    assert 0 < (run(package.graph, IMAGES) - logits).abs().max() < 0.02 * logits.abs().max()
    conv = found.tensors[0]
    channels = int((graph.tensor("conv.weight") != 0).flatten(1).any(1).sum())
    assert conv.values == width * conv.nonzeros + (4 * channels if values == "int8" else 0)


def test_what_is_refused_is_not_written(path):
    before = path.read_bytes()
    graph = network()
    unknown = replace(graph, nodes=(*graph.nodes[:-1], Node("logits", "system", (Ref("mean"),))))
    too_sparse = replace(graph, tensors={**graph.tensors, "unread": torch.zeros(5000, 5000)})
    for wrong, manifest, values, message in (
        (unknown, MANIFEST, "fp32", "system"),
        (graph, replace(MANIFEST, classes=("a" * TEXT,)), "fp32", "longer than"),
        (graph, MANIFEST, "int4", "no precision 'int4'"),
        (graph, replace(MANIFEST, provenance={"when": object()}), "fp32", "what JSON cannot"),
        (too_sparse, MANIFEST, "fp32", "its tensors have 25,000,516 elements"),
    ):
        with pytest.raises(HarpError, match=message):
            write(path, wrong, manifest, values)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    for length in range(len(data)):
        with pytest.raises(HarpError, match=r"^it is (no harp package|[0-9,]+ bytes long)"):
            assert not Contents.of(data[:length]).faults()
    for length in (0, 1, 7, 8, 9, 200, len(data) - 33, len(data) - 1):
        path.write_bytes(data[:length])
        assert len(check_file(path)) == 1
        with pytest.raises(HarpError, match=f"^{path}: it is "):
            read(path)


def test_appended_bytes_are_refused(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(HarpError, match="is it cut short"):
        read(path)


def test_a_thousand_bit_flips_are_refused(path):
    data = path.read_bytes()
    for place in random.Random(0).sample(range(8 * len(data)), 1000):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(HarpError, match=f"^{path}: "):
            read(path)


def tensors(**changes):
    def change(document, sections):
        document["tensors"][0].update(changes)

    return change


def code(**changes):
    return lambda document, sections: document["tensors"][0]["sparse"].update(changes)


def text(data):
    return lambda document, sections: document.update(text=data)


def ones(document, sections):
    sections["index"] = b"\xff" * len(sections["index"])


DOCUMENTS = {
    "index of ones": (ones, "'conv.weight': its index"),
    "more values than positions": (code(count=10**9), "'conv.weight': (it needs|its index)"),
    "fewer values": (code(count=3), "conv.weight"),
    "absurd low bits": (code(low=60), "its index is impossible|it needs"),
    "no high bits": (code(high=0), "its index is impossible"),
    "absurd high bits": (code(high=2**40), "it needs 137,438,953,[0-9]+ more numbers of the section index"),
    "more values than elements": (tensors(shape=[1]), "its index leaves the tensor: position"),
    "10**12 elements": (tensors(shape=[10**6, 10**6]), "its tensors have 1,000,000,000,[0-9]+ elements"),
    "another dtype": (tensors(dtype="float64"), "more numbers of the section float64"),
    "stored in half": (tensors(stored="float16"), "its values are said to be 'fp32', but 'conv.weight' is not"),
    "twice": (lambda document, _: document["tensors"].append(document["tensors"][0]), "two tensors called"),
    "one missing": (lambda document, _: document["tensors"].pop(), "belong to no tensor"),
    "none": (lambda document, _: document.update(tensors=[]), "belong to no tensor"),
    "renamed": (tensors(name="other"), "reads 'conv.weight'"),
    "reordered": (lambda document, _: document["tensors"].reverse(), "'fc.bias'|its index|conv"),
    "unknown operator": (lambda document, _: document["graph"]["nodes"][1].__setitem__(1, "system"), "system"),
    "cycle": (lambda document, _: document["graph"]["nodes"].reverse(), "reads 'mean'"),
    "no graph": (lambda document, _: document.pop("graph"), "'graph' is missing"),
    "more": (lambda document, _: document.update(code="import os"), "unknown key 'code'"),
    "not JSON": (text(b"\x80\x04."), "not strict JSON"),
    "no object": (text(b"[]"), "expected an object"),
    "deep": (text(b"[" * 2**20), "nested too deep"),
    "NaN": (text(b'{"about": NaN}'), "no JSON number"),
    "a bomb": (text(b" " * 10**8), "longer than 2,097,152 bytes"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_hostile_documents_under_right_checksums(case, path):
    change, message = DOCUMENTS[case]
    resealed(path, change)
    with pytest.raises(HarpError, match=message):
        read(path)
    assert check_file(path)


def test_a_document_that_is_not_touched_is_read(path):
    resealed(path, lambda document, sections: document["about"].update(later=[1]))
    assert read(path).manifest.more == {"later": [1]}


@pytest.mark.parametrize("end", [b"", b"more", zlib.compress(b"{}")])
def test_streams_that_are_not_one_whole_one(end, path):
    data = zlib.compress(json.dumps({}).encode())
    contents = Contents.of(path.read_bytes())
    sections = {name: bytes(contents.bytes(name)) for name in contents.spans if name != "seal"}
    path.write_bytes(pack(sections | {"manifest": data + end if end else data[:-3]}))
    with pytest.raises(HarpError, match="not one whole zlib stream"):
        read(path)


def test_check_file_names_every_impossible_tensor(path):
    def change(document, sections):
        sections["index"] = bytes(len(sections["index"]))

    resealed(path, change)
    assert [fault.split(":")[0] for fault in check_file(path)] == ["the tensor 'conv.weight'", "the tensor 'fc.weight'"]


HOSTILE = """
import resource, sys
from harp.errors import HarpError
from harp.package import read
read(sys.argv[1])  # so that all that is needed is loaded
for path in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read(path)
    except HarpError:
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def large(document, sections):
    document["tensors"] = [{"name": f"t{i}", "dtype": "bool", "shape": [0]} for i in range(38_000)]


def lists(document, sections):
    document["text"] = b"[" + b"[[0]]," * (TEXT // 6 - 2) + b"0]"


@pytest.mark.slow
def test_hostile_files_take_little_memory(path, tmp_path):
    """Under 200 MB are added to the peak by each file, in a process that has read but one small package before."""
    changes = [DOCUMENTS[case][0] for case in ("a bomb", "10**12 elements", "absurd high bits")]
    files = []
    for i, change in enumerate([*changes, large, lists]):
        files.append(tmp_path / str(i))
        files[-1].write_bytes(path.read_bytes())
        resealed(files[-1], change)
    found = subprocess.run([sys.executable, "-c", HOSTILE, path, *files], capture_output=True, text=True, check=True)
    assert [int(line) < 200_000 for line in found.stdout.split()] == [True] * len(files), found.stdout


def test_a_large_sparse_tensor_stays_sparse(tmp_path):
    weight = torch.zeros(3000, 5000)
    weight[0, 0] = weight[2999, 4999] = 1.0
    nodes = (Node("logits", "linear", (Ref("x"), Ref("w"), None)),)
    write(tmp_path / "a", Graph("x", (5000,), nodes, "logits", {"w": weight}), Manifest())
    assert (tmp_path / "a").stat().st_size < 2000
    found = read(tmp_path / "a").graph.tensors["w"]
    assert isinstance(found, Sparse)
    assert (found.shape, found.index.tolist()) == ((3000, 5000), [0, 14_999_999])


def test_any_small_network_round_trips(tmp_path):
    for density in (0.0, 0.01, 0.3, 0.6, 1.0):
        written = write(tmp_path / "a", network(density), Manifest())
        assert torch.equal(run(read(tmp_path / "a").graph, IMAGES), run(network(density), IMAGES))
        assert written == sizes(tmp_path / "a")
        assert written.bytes == (tmp_path / "a").stat().st_size


def test_networks_with_constants_of_every_dtype(tmp_path):
    graph = network()
    for dtype in ("float64", "int64", "int32", "float16", "bfloat16", "int16", "int8", "uint8", "bool"):
        tensor = (9 * pruned((3, 5), 0.8)).to(getattr(torch, dtype))
        graph = replace(graph, tensors={**graph.tensors, dtype: tensor})
    write(tmp_path / "a", graph, Manifest())
    found = read(tmp_path / "a").graph
    assert all(bits(found.tensor(name)) == bits(graph.tensor(name)) for name in graph.tensors)
