"""Blocks of images, one in each lane: the same numbers, whatever the size of the map and the number of images."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from harp.graph import Graph, Node, Ref
from harp.runtime import Engine, compile
from harp.runtime.blocks import Blocks, met, pieces
from harp.runtime.compiling import CompiledSegment
from harp.runtime.layers import Layer, Window
from harp.runtime.native import native
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine
from tests.runtime.graphs import BUILT, NOISE, conv, error, graphs, one

SMALL, LARGE = Machine(8, 16), Machine(16, 32)


@pytest.fixture
def all_in_blocks(monkeypatch: pytest.MonkeyPatch):
    """Every layer runs on blocks of images where there are enough, whatever it would cost."""
    monkeypatch.setattr(CompiledSegment, "_late", lambda self: self.layers)


def only(patched: pytest.MonkeyPatch, width: int, row_by_row: bool) -> None:
    """Convolutions run for so many filters at a time, in large pieces or in single rows, whatever it would cost."""
    patched.setattr(
        Blocks, "_pieces", lambda self, layer: pieces(layer, self.machine, width)[-1 if row_by_row else 0 :][:1]
    )


@pytest.fixture(params=[(1, False), (4, False), (1, True), (4, True)])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions run in one kind of pieces only."""
    only(monkeypatch, *request.param)


SAME = Window((3, 3), padding=(1, 1))


def layer(height: int, width: int, window: Window = SAME) -> Layer:
    return Layer("conv", "y", ("x",), (1, height, width), window=window)


@pytest.mark.parametrize("machine", [SMALL, LARGE])
@pytest.mark.parametrize("width", [1, 4])
def test_the_sums_of_a_piece_leave_registers_for_inputs(machine: Machine, width: int):
    for height, columns in itertools.product(range(1, 9), repeat=2):
        for piece in pieces(layer(height, columns), machine, width):
            assert 1 <= piece.rows <= height
            assert 1 <= piece.columns <= columns
            assert piece.rows * piece.columns * width <= machine.registers // 2
            assert piece.rows == 1 or piece.lists == 1


def test_rows_of_the_kernel_meet_fewer_rows_of_the_image_at_its_border():
    assert met(layer(4, 4), 4).tolist() == [3, 4, 3]
    assert met(layer(2, 2), 2).tolist() == [1, 2, 1]
    assert met(layer(2, 2, Window((3, 3), (2, 2), (1, 1))), 4).tolist() == [1, 2, 2]
    assert met(layer(4, 4, Window((3, 3), padding=(2, 2), dilation=(2, 2))), 4).tolist() == [2, 4, 2]
    assert met(layer(2, 2, Window((3, 3))), 4).tolist() == [2, 2, 2]


def test_single_rows_are_cheaper_where_they_meet_much_padding():
    """On maps of 2 x 2 a third of all rows; but not where lists have a single entry."""
    shape = (64, 2, 2)
    full = Taps.of(np.ones((64, 64, 3, 3), np.float32), None, Window((3, 3)))
    centre = torch.zeros(64, 64, 3, 3)
    centre[:, :, 1, 1] = torch.eye(64)
    few = Taps.of(centre.numpy(), None, Window((3, 3)))
    for taps, lists in ((full, 3), (few, 1)):
        found = Blocks({"y": taps}, {"x": shape}, LARGE)._piece(replace(layer(2, 2), shape=shape))
        assert found.lists == lists


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("variant", BUILT)
@pytest.mark.usefixtures("all_in_blocks", "piece")
def test_every_remainder_of_a_map(variant: str, stride: int):
    """Maps of 1 x 1 to 6 x 6, which pieces of up to 4 x 4 cover; seven filters, of which a last four has three."""
    lanes = native(variant).lanes
    for height, columns in itertools.product(range(1, 7), repeat=2):
        weight = torch.randn(7, 7, 3, 3, generator=NOISE) * (torch.rand(7, 7, 3, 3, generator=NOISE) < 0.3)
        graph = one(weight, (7, height, columns), residual=stride == 1, stride=stride)
        x = torch.randn(lanes, 7, height, columns, generator=NOISE)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), (height, columns)


@pytest.mark.parametrize("variant", BUILT)
@pytest.mark.usefixtures("all_in_blocks", "piece")
def test_every_number_of_images(variant: str):
    weight = torch.randn(6, 4, 3, 3, generator=NOISE)
    graph = one(weight, (4, 5, 5))
    engine = compile(graph, variant=variant)
    for images in range(1, 2 * native(variant).lanes + 2):
        x = torch.randn(images, 4, 5, 5, generator=NOISE)
        mine, torchs = error(graph, engine(x), x)
        assert mine <= max(1e-6, 3 * torchs), images


@pytest.mark.parametrize("variant", BUILT)
@pytest.mark.usefixtures("all_in_blocks", "piece")
def test_rows_share_the_zeros_between_them(variant: str):
    """Windows that reach further to one side than to the other, and beyond the plane they were padded for."""
    for kernel, padding, dilation, stride in ((2, 1, 1, 1), (5, 2, 1, 1), (3, 2, 2, 1), (3, 3, 1, 1), (4, 1, 1, 3)):
        weight = torch.randn(3, 2, kernel, kernel, generator=NOISE)
        graph = one(weight, (2, 6, 6), padding=padding, dilation=dilation, stride=stride)
        x = torch.randn(16, 2, 6, 6, generator=NOISE)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), kernel


def other_layers() -> Graph:
    """Pooling of all kinds, addition, cat, mean, scale and a linear layer, all behind one convolution."""
    c = Ref("c")
    nodes = (
        conv("c", "x", 1, 1, 1, 1, bias=False),
        Node("p", "max_pool2d", (c, (3, 3), (1, 1), (1, 1), (1, 1), False)),
        Node("q", "avg_pool2d", (c, (3, 3), (1, 1), (1, 1), False, False, None)),
        Node("s", "add.Tensor", (Ref("p"), Ref("q"), 1)),
        Node("k", "cat", ((Ref("s"), c), 1)),
        Node("h", "max_pool2d", (Ref("k"), (2, 2), (2, 2), (0, 0), (1, 1), False)),
        Node("m", "mean.dim", (Ref("h"), (2, 3), True, None)),
        Node("g", "sigmoid", (Ref("m"),)),
        Node("e", "mul.Tensor", (Ref("h"), Ref("g"))),
        Node("f", "flatten.using_ints", (Ref("e"), 1, -1)),
        Node("y", "linear", (Ref("f"), Ref("l.w"), Ref("l.b"))),
    )
    tensors = {"c.w": torch.randn(4, 3, 3, 3, generator=NOISE), "l.w": torch.randn(5, 72, generator=NOISE)}
    return Graph("x", (3, 7, 7), nodes, "y", {**tensors, "l.b": torch.randn(5, generator=NOISE)})


@pytest.mark.parametrize("variant", BUILT)
@pytest.mark.usefixtures("all_in_blocks")
def test_every_other_layer(variant: str):
    graph = other_layers()
    for images in (1, 16, 19):
        x = torch.randn(images, 3, 7, 7, generator=NOISE)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), images


def border(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """From its layer number `place` on, a segment runs on blocks of images."""
    monkeypatch.setattr(CompiledSegment, "_late", lambda self: self.layers[place:])


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("variant", BUILT)
def test_every_border_between_single_images_and_blocks(variant: str, place: int, monkeypatch: pytest.MonkeyPatch):
    """Values cross it that one side reads, that both read, and that leave."""
    border(monkeypatch, place)
    graph = other_layers()
    x = torch.randn(21, 3, 7, 7, generator=NOISE)
    mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-6, 3 * torchs)


@pytest.mark.parametrize("variant", BUILT)
@settings(max_examples=60)
@given(graph=graphs(), place=st.integers(0, 4), width=st.sampled_from([1, 4]), row_by_row=st.booleans())
def test_any_graph_with_any_border(variant: str, graph: Graph, place: int, width: int, row_by_row: bool):
    x = torch.rand(18, *graph.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with pytest.MonkeyPatch.context() as patched:
        border(patched, place)
        only(patched, width, row_by_row)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-5, 3 * torchs)


@pytest.mark.parametrize("variant", BUILT)
def test_blocks_begin_where_maps_are_small_and_are_made_when_a_batch_comes(
    variant: str, monkeypatch: pytest.MonkeyPatch
):
    """If blocks cost nothing: after the pooling that reads a map of 32 x 32."""
    monkeypatch.setattr(Blocks, "cost", lambda *_: 0.0)
    nodes = [
        conv("a", "x", 1, 1, 1, 1, bias=False),
        Node("p", "max_pool2d", (Ref("a"), (16, 16), (16, 16), (0, 0), (1, 1), False)),
        conv("b", "p", 1, 1, 1, 1, bias=False),
        Node("s", "add.Tensor", (Ref("b"), Ref("p"), 1)),
        conv("c", "s", 1, 1, 1, 1, bias=False),
        Node("y", "flatten.using_ints", (Ref("c"), 1, -1)),
    ]
    weights = {f"{name}.w": torch.randn(8, 8, 3, 3, generator=NOISE) for name in "abc"}
    graph = Graph("x", (8, 32, 32), tuple(nodes), "y", weights)
    engine = compile(graph, variant=variant)
    assert isinstance(engine, Engine)
    compiled = engine.segments[0].compiled
    assert [layer.name for layer in compiled.late] == ["s", "c"]
    x = torch.randn(20, 8, 32, 32, generator=NOISE)
    engine(x[:1])
    assert compiled.tail is None
    mine, torchs = error(graph, engine(x), x)
    assert compiled.bounds == ["p"]
    assert mine <= max(1e-6, 3 * torchs)


@pytest.mark.parametrize("variant", BUILT)
@pytest.mark.usefixtures("all_in_blocks")
def test_threads_share_out_whole_blocks(variant: str):
    """So that an image is computed in the same way, and to the same bit, by however many."""
    weight = torch.randn(16, 16, 3, 3, generator=NOISE)
    graph = one(weight, (16, 4, 4))
    for blocks in (1, 3, 5):
        x = torch.randn(blocks * native(variant).lanes + 1, 16, 4, 4, generator=NOISE)
        whole = compile(graph, variant=variant)(x)
        for threads in (2, 3, 4):
            assert torch.equal(compile(graph, threads=threads, variant=variant)(x), whole)
