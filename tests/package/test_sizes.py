import math

import pytest
import torch

from harp.graph import Graph, Node, Ref
from harp.package import Manifest, sizes, write
from tests.package.networks import network, pruned


def test_bound_by_hand(tmp_path):
    weight = torch.zeros(10, 10)
    weight[2, 3] = weight[5, 5] = weight[9, 9] = 1.0
    nodes = (Node("y", "linear", (Ref("x"), Ref("w"), Ref("b"))),)
    graph = Graph("x", (10,), nodes, "y", {"w": weight, "b": torch.ones(10)})
    found = write(tmp_path / "a", graph, Manifest())
    first, second = found.tensors
    assert first.bound == pytest.approx(math.log2(math.comb(100, 3)) / 8 + 4 * 3)
    assert (first.nonzeros, first.values, second.bound) == (3, 12, 40)
    assert found.bound == first.bound + second.bound
    half = write(tmp_path / "a", graph, Manifest(), "fp16")
    assert half.tensors[0].bound == pytest.approx(math.log2(math.comb(100, 3)) / 8 + 2 * 3)


@pytest.mark.parametrize("values", ["fp32", "fp16", "bf16", "int8"])
def test_parts_and_tensors_account_for_every_byte(values, tmp_path):
    found = write(tmp_path / "a", network(0.2), Manifest(), values)
    assert found.bytes == (tmp_path / "a").stat().st_size
    assert sum(tensor.index for tensor in found.tensors) == found.parts["index"]
    rest = sum(found.parts[part] for part in ("header", "manifest", "seal", "index"))
    assert sum(tensor.values for tensor in found.tensors) == found.bytes - rest
    assert found == sizes(tmp_path / "a")


@pytest.mark.parametrize(("density", "most"), [(0.1, 1.01), (0.01, 1.02), (0.001, 1.09)])
def test_near_the_bound(density, most, tmp_path):
    tensors = {f"w{i}": pruned((1000, 1000), density, i) for i in range(6)}
    tensors |= {f"b{i}": torch.ones(1000) for i in range(6)}
    nodes = [Node("n0", "linear", (Ref("x"), Ref("w0"), Ref("b0")))]
    nodes += [Node(f"n{i}", "linear", (Ref(f"n{i - 1}"), Ref(f"w{i}"), Ref(f"b{i}"))) for i in range(1, 6)]
    found = write(tmp_path / "a", Graph("x", (1000,), tuple(nodes), "n5", tensors), Manifest())
    assert 1 < found.bytes / found.bound < most
