"""Every way to walk along a plane has a kernel, and that kernel is right."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from harp.graph import Graph, Node, Ref
from harp.runtime import Engine, compile, convolutions
from harp.runtime.native import native
from harp.runtime.tiling import (
    Machine,
    Tiling,
    Work,
    best,
    block_cost,
    ceil_to,
    linear_cost,
    pitch_of,
    small_dense,
    tilings,
)
from tests.runtime.graphs import BUILT, conv, error, one

MACHINES = [Machine(16, 32), Machine(8, 16), Machine(4, 16), Machine(4, 32)]
WORK = Work(filters=8, columns=3, entries=50, quads=40, beside=30, aside=1, channels=8, reach=2)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(MACHINES), st.sampled_from([1, 3]))
def test_tiles_cover_the_plane_and_hold_whole_rows_where_sums_are_shifted(
    height: int, width: int, machine: Machine, columns: int
):
    pitch = pitch_of(height, width, machine)
    size = height * pitch
    for tiling in tilings(height, pitch, replace(WORK, columns=columns), machine):
        assert size <= tiling.span < size + tiling.lanes * tiling.tile
        assert tiling.cost > 0
        if columns > 1:
            assert tiling.tiles == 1 or tiling.lanes * tiling.tile % pitch == 0


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(MACHINES))
def test_rows_begin_where_vectors_do_unless_the_plane_is_tiny(height: int, width: int, machine: Machine):
    pitch = pitch_of(height, width, machine)
    assert width <= pitch < width + machine.lanes
    assert pitch % min(8, machine.lanes) == 0 or (pitch == width and height * width <= 16)


def test_no_tile_holds_a_row_that_is_longer_than_all_registers():
    """Fourteen vectors of four: rows of 56 fit, rows of 60 do not and are read another way."""
    machine = Machine(4, 16)
    assert best(8, 56, WORK, machine)
    assert best(8, 60, WORK, machine) is None
    assert best(8, 60, replace(WORK, columns=1, aside=0), machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_where_results_are_halved_a_tile_holds_pairs_of_rows(machine: Machine):
    for height, pitch in itertools.product((2, 4, 8, 16, 32), (4, 8, 16, 32)):
        for tiling in tilings(height, pitch, replace(WORK, halved=True), machine):
            assert tiling.tile % 4 == 0
            assert tiling.lanes * tiling.tile % (2 * pitch) == 0
            assert tiling.span == height * pitch
            assert pitch in (tiling.lanes, 2 * tiling.lanes)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", range(1, 17))
def test_small_dense_maps_are_covered_and_fit_into_registers(machine: Machine, size: int):
    """One register is left at least, for weights; a plane of so many elements has room for a multiple of four."""
    tiling = small_dense(size, taps=90, filters=40, machine=machine)
    assert size <= tiling.span <= ceil_to(size, 4)
    assert tiling.tile % 4 == 0
    assert tiling.tile * machine.together(tiling.tile) < machine.registers
    assert tiling.cost < small_dense(size, taps=90, filters=400, machine=machine).cost


def test_more_entries_and_more_filters_cost_more():
    assert linear_cost(20, 4) > linear_cost(10, 4) > linear_cost(10, 2)
    assert block_cost(16, 4, 20, 4, 8) > block_cost(16, 4, 10, 4, 8) > block_cost(16, 4, 10, 4, 16)


# Maps whose rows fill a vector, several, a part of one, or are shorter than the shortest vector.
SHAPES = [(8, 8), (16, 16), (4, 4), (3, 3), (5, 7), (2, 13), (7, 20), (1, 9)]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("variant", BUILT)
def test_every_tiling_gives_what_pytorch_gives(variant: str, kernel: int, monkeypatch: pytest.MonkeyPatch):
    """Six filters, so that kernels for four have a remainder; a residual and an activation go with each."""
    build = native(variant)
    machine = Machine(build.lanes, build.registers)
    seen: set[tuple[int, int, int]] = set()
    noise = torch.Generator().manual_seed(kernel)
    for height, width in SHAPES:
        weight = torch.randn(6, 6, kernel, kernel, generator=noise)
        weight *= torch.rand(weight.shape, generator=noise) < 0.4
        graph = one(weight, (6, height, width), padding=kernel // 2, residual=True)
        x = torch.randn(1, 6, height, width, generator=noise)
        for tiling in _found(graph, variant, monkeypatch):
            monkeypatch.setattr(convolutions, "best", lambda *_, chosen=tiling, **__: chosen)
            mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
            assert mine <= max(1e-6, 3 * torchs), (height, width, tiling)
            seen.add((tiling.lanes, tiling.tile, tiling.width))
    widths = (0, 1, 4) if kernel == 3 else (1, 4)
    kernels = {(n, t, w) for n in machine.widths() for w in widths for t in range(1, machine.most(n, w) + 1)}
    if kernel == 1:
        assert seen == kernels
    else:
        assert {(n, w) for n, _, w in seen} == {(n, w) for n, _, w in kernels}


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("variant", BUILT)
def test_channels_in_parts_give_what_pytorch_gives(variant: str, kernel: int, monkeypatch: pytest.MonkeyPatch):
    """Parts of many channels, of one, and of none that a filter reads; what is added lies where the sums will."""
    noise = torch.Generator().manual_seed(kernel)
    tensors = {name: torch.randn(36, 36, kernel, kernel, generator=noise) for name in ("a.w", "c.w")}
    for weight in tensors.values():
        weight *= torch.rand(weight.shape, generator=noise) < 0.1
    convs = [conv(name, "x", 1, kernel // 2, 1, 1, False) for name in ("a", "c")]
    rest = [Node("s", "add.Tensor", (Ref("c"), Ref("a"), 1)), Node("r", "relu", (Ref("s"),))]
    flat = Node("y", "flatten.using_ints", (Ref("r"), 1, -1))
    graph = Graph("x", (36, 8, 8), (*convs, *rest, flat), "y", tensors)
    x = torch.randn(2, 36, 8, 8, generator=noise)
    plans = {tiling for tiling in _found(graph, variant, monkeypatch) if tiling.width == 1 and tiling.parts == 1}
    for tiling, parts in itertools.product(sorted(plans, key=lambda t: t.cost)[:3], (2, 3, 7, 36)):
        divided = replace(tiling, parts=parts)
        monkeypatch.setattr(convolutions, "best", lambda *_, chosen=divided, **__: chosen)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), divided


def test_channels_come_in_parts_where_the_first_cache_holds_no_tile_of_all():
    """A 1 x 1 convolution of 1,024 channels on 14 x 14, of which a quarter is left; not with 64 channels."""
    wide = Work(256, 1, 2**16, 2**18, 0, 0, channels=1024, reach=0)
    for machine in MACHINES:
        tiling = best(14, 16, wide, machine)
        assert tiling is not None
        assert tiling.parts > 1
        assert 4 * 1024 / tiling.parts * tiling.lanes * tiling.tile < 2**16
        narrow = best(14, 16, replace(wide, entries=2**12, quads=2**14, channels=64), machine)
        assert narrow is not None
        assert narrow.parts == 1


def _found(graph, variant: str, monkeypatch: pytest.MonkeyPatch) -> list[Tiling]:
    """All that `best` had to choose from when it was asked for the way that reads planes directly."""
    choices: list[Tiling] = []

    def chosen(*arguments, **flags):
        choices.extend(tilings(*arguments, **flags))
        return best(*arguments, **flags)

    monkeypatch.setattr(convolutions, "best", chosen)
    monkeypatch.setattr(convolutions, "_phases", lambda *_: None)
    monkeypatch.setattr(convolutions, "_columns", lambda *_: None)
    assert isinstance(compile(graph, variant=variant), Engine)
    return choices
