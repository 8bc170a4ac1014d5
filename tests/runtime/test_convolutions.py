"""However a convolution reads its planes, every tap meets the element it should."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, strategies as st

from harp.graph import Graph, Node, Ref
from harp.runtime import Engine, compile, convolutions
from harp.runtime.convolutions import Reading, Task, reading
from harp.runtime.layers import Shape, Window
from harp.runtime.taps import Taps
from harp.runtime.tiling import Machine
from tests.runtime.graphs import BUILT, error, one

MACHINE = Machine(8, 16)
WAYS = ("_direct", "_phases", "_columns", "_patches")


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int, int], tuple[int, int, int], Window]:
    """Planes that are read, planes that are made of them, and the window."""
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    pairs = [st.tuples(st.integers(low, high), st.integers(low, high)) for low, high in ((1, 5), (0, 3), (1, 2))]
    kernel, padding, dilation = (draw(pair) for pair in pairs)
    stride = draw(st.integers(1, 3))
    made = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride + 1 for i in (0, 1)]
    assume(min(made) > 0)
    return (2, *size), (3, made[0], made[1]), Window(kernel, (stride, stride), padding, dilation)


def full(given_: Shape, made: Shape, window: Window) -> Task:
    """The convolution with all its weights."""
    weight = np.ones((made[0], given_[0], *window.kernel), np.float32)
    return Task(Taps.of(weight, None, window), given_, made, window, MACHINE)


def ways(task: Task) -> list[Reading]:
    found = [getattr(convolutions, way)(task) for way in WAYS]
    return [way for way in found if way]


@given(cases())
def test_view_row_and_shift_lead_to_the_element_under_the_tap(case):
    """Element (r, c) of the view (v, h) is (r S + v, c S + h) of the plane: so for output (0, 0), hence for all."""
    window = case[2]
    for way in ways(full(*case)):
        stride, views = max(1, way.stride), np.array(way.views or [(0, 0)])
        below, beside = np.indices(window.kernel)
        row = way.row * stride + views[way.view][..., 0]
        column = way.shift * stride + views[way.view][..., 1]
        assert (row == below * window.dilation[0] - window.padding[0]).all()
        assert (column == beside * window.dilation[1] - window.padding[1]).all()


@given(cases())
def test_lists_run_from_the_outermost_columns_to_the_centre(case):
    """A sum is shifted once for every list that still comes, so a tap's list tells how far it has to go."""
    task = full(*case)
    taps = task.taps
    for way in ways(task):
        shift, column = way.shift[taps.y, taps.x], way.column(taps)
        assert column.min() >= 0
        assert column.max() < way.columns
        left = column <= way.before
        assert (shift[left] == column[left] - way.before).all()
        assert (shift[~left] == way.columns - column[~left]).all()


@given(cases())
def test_there_is_always_a_way(case):
    task = full(*case)
    chosen = reading(task)
    assert chosen is not None
    assert (chosen.stride, chosen.tiling) in [(way.stride, way.tiling) for way in ways(task)]


@pytest.mark.parametrize(
    ("window", "size", "made", "stride"),
    [
        (Window((3, 3), padding=(1, 1)), 16, 16, 0),
        (Window((1, 1)), 8, 8, 0),
        (Window((3, 3), (2, 2), (1, 1)), 32, 16, 2),
        (Window((3, 3), padding=(1, 1)), 300, 300, 1),  # no tile holds a row
        (Window((3, 3)), 32, 30, 1),  # rows get shorter
    ],
)
def test_what_real_networks_ask_for(window: Window, size: int, made: int, stride: int):
    """Planes are read as they are where that is possible, with a stride as its phases, else as shifted columns."""
    chosen = reading(full((16, size, size), (16, made, made), window))
    assert chosen is not None
    assert chosen.stride == stride


# Strides, and sizes with kernels and dilations, where a way is possible.
STRIDES = {"_direct": (1,), "_phases": (2, 3), "_columns": (1, 2, 3), "_patches": (1, 2, 3)}
SIZES = ((8, 3, 1), (9, 3, 1), (4, 3, 1), (12, 5, 1), (16, 3, 2), (32, 7, 1))
SMALL = ((4, 3, 1), (4, 5, 1), (4, 3, 2), (3, 3, 1), (2, 3, 1), (2, 1, 1))


@pytest.mark.parametrize(("way", "stride"), [(way, stride) for way in WAYS for stride in STRIDES[way]])
@pytest.mark.parametrize("variant", BUILT)
def test_each_way_gives_what_pytorch_gives(variant: str, way: str, stride: int, monkeypatch: pytest.MonkeyPatch):
    for other in set(WAYS) - {way}:
        monkeypatch.setattr(convolutions, other, lambda *_: None)
    noise = torch.Generator().manual_seed(0)
    for size, kernel, dilation in SMALL if way == "_patches" else SIZES:
        weight = torch.randn(5, 5, kernel, kernel, generator=noise)
        weight *= torch.rand(weight.shape, generator=noise) < 0.3
        how = {"stride": stride, "padding": dilation * (kernel // 2), "dilation": dilation}
        graph = one(weight, (5, size, size), residual=stride == 1, **how)
        x = torch.randn(1, 5, size, size, generator=noise)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), (size, kernel)


@pytest.mark.parametrize("variant", BUILT)
def test_small_dense_maps_larger_or_smaller_than_what_they_are_made_of(variant: str, monkeypatch: pytest.MonkeyPatch):
    for other in set(WAYS) - {"_patches"}:
        monkeypatch.setattr(convolutions, other, lambda *_: None)
    noise = torch.Generator().manual_seed(0)
    for size, kernel, padding, stride in (
        (1, 1, 1, 1),
        (1, 3, 2, 1),
        (2, 2, 1, 1),
        (5, 3, 0, 1),
        (9, 3, 0, 2),
        (2, 7, 3, 1),
    ):
        for filters in (3, 40):
            graph = one(
                torch.randn(filters, 5, kernel, kernel, generator=noise),
                (5, size, size),
                padding=padding,
                stride=stride,
            )
            x = torch.randn(1, 5, size, size, generator=noise)
            mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
            assert mine <= max(1e-6, 3 * torchs), (size, kernel, filters)


@pytest.mark.parametrize("variant", BUILT)
def test_offsets_are_short_as_long_as_they_fit(variant: str):
    """Planes of 32 x 32 lie 1,088 apart or a little more: the last of 55 is in reach, of 65 it is not."""
    noise = torch.Generator().manual_seed(0)
    brief = []
    for channels in range(55, 66):
        weight = torch.randn(8, channels, 3, 3, generator=noise)
        weight *= torch.rand(weight.shape, generator=noise) < 0.1
        weight[:, [0, -1]] = 1.0
        graph = one(weight, (channels, 32, 32))
        x = torch.randn(1, channels, 32, 32, generator=noise)
        engine = compile(graph, variant=variant)
        mine, torchs = error(graph, engine(x), x)
        assert mine <= max(1e-6, 3 * torchs), channels
        assert isinstance(engine, Engine)
        brief += [step.brief for step in engine.segments[0].compiled.whole.steps if step.filters]
    assert brief == sorted(brief, reverse=True)
    assert {*brief} == {0, 1}


@pytest.mark.parametrize("way", ["_phases", "_columns"])
@pytest.mark.parametrize("variant", BUILT)
def test_four_views_that_are_not_the_quarters_of_the_plane(variant: str, way: str, monkeypatch: pytest.MonkeyPatch):
    """Rows taken apart into even and odd elements are the commonest views, and have a way of their own."""
    for other in set(WAYS) - {way}:
        monkeypatch.setattr(convolutions, other, lambda *_: None)
    noise = torch.Generator().manual_seed(0)
    for size, kernel, padding, dilation in (((12, 8), (3, 2), 1, 3), ((5, 5), (3, 3), 6, 1)):
        graph = one(
            torch.randn(5, 5, *kernel, generator=noise), (5, *size), stride=2, padding=padding, dilation=dilation
        )
        x = torch.randn(1, 5, *size, generator=noise)
        mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
        assert mine <= max(1e-6, 3 * torchs), size


@pytest.mark.parametrize("variant", BUILT)
def test_convolutions_share_their_views_only_if_their_rows_are_as_long(variant: str):
    """Four columns each, but sixteen elements lie together where twenty-four do not."""
    pairs = {"a": ((3, 3), (1, 1)), "b": ((1, 3), (2, 1))}
    nodes = [
        Node(name, "conv2d", (Ref("x"), Ref(f"{name}.w"), None, (2, 2), padding, (1, 1), 1))
        for name, (_, padding) in pairs.items()
    ]
    nodes += [Node(f"{name}.y", "flatten.using_ints", (Ref(name), 1, -1)) for name in pairs]
    nodes.append(Node("y", "cat", ((Ref("a.y"), Ref("b.y")), 1)))
    noise = torch.Generator().manual_seed(0)
    tensors = {f"{name}.w": torch.randn(5, 5, *kernel, generator=noise) for name, (kernel, _) in pairs.items()}
    graph = Graph("x", (5, 8, 8), tuple(nodes), "y", tensors)
    x = torch.randn(1, 5, 8, 8, generator=noise)
    mine, torchs = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= max(1e-6, 3 * torchs)
