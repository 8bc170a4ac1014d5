"""Every rule says what PyTorch says, or nothing."""

from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from harp.graph.calls import call_of
from harp.graph.operators import operator
from harp.graph.rules import _SAME, _WHOLE, Blank, by_rule

SMALL = st.integers(0, 4)
PAIR = st.lists(SMALL, min_size=2, max_size=2)
DIMS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
NUMBER = st.sampled_from([-1, 0, 1, 2, 3])


def shaped(dims: st.SearchStrategy[list[int]]) -> st.SearchStrategy[torch.Tensor]:
    return dims.map(lambda size: torch.empty(size, device="meta"))


def four(*sizes: st.SearchStrategy[int]) -> st.SearchStrategy[torch.Tensor]:
    return shaped(st.tuples(*sizes).map(list))


MAP = four(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
VECTOR = shaped(st.integers(1, 4).map(lambda n: [n]))
CASES = {
    "relu": (shaped(DIMS),),
    "add.Tensor": (shaped(DIMS), shaped(DIMS), st.just(1)),
    "conv2d": (MAP, four(*[st.integers(1, 4)] * 4), st.none() | VECTOR, PAIR, PAIR, PAIR, st.integers(0, 2)),
    "linear": (shaped(DIMS), shaped(st.lists(st.integers(1, 4), min_size=2, max_size=2)), st.none() | VECTOR),
    "max_pool2d": (MAP, PAIR, PAIR, PAIR, PAIR, st.booleans()),
    "avg_pool2d": (MAP, PAIR, PAIR, PAIR, st.booleans(), st.booleans(), st.none()),
    "adaptive_avg_pool2d": (MAP, PAIR),
    "mean.dim": (shaped(DIMS), st.lists(NUMBER, max_size=3), st.booleans(), st.none()),
    "flatten.using_ints": (shaped(DIMS), NUMBER, NUMBER),
    "view": (shaped(DIMS), st.lists(st.sampled_from([-1, 1, 2, 3, 4, 6, 12]), min_size=1, max_size=3)),
    "cat": (st.lists(shaped(DIMS), min_size=1, max_size=3), NUMBER),
    "clamp": (shaped(DIMS), st.none() | NUMBER, st.just(2)),
    "sym_size.int": (shaped(DIMS), NUMBER),
}


def blank(value: Any) -> Any:
    """Arguments with blanks for tensors."""
    if isinstance(value, tuple | list):
        return type(value)(blank(part) for part in value)
    return Blank.of(value) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("op", CASES)
def test_a_rule_is_pytorchs(op: str):
    @given(st.tuples(*CASES[op]))
    def holds(args: tuple[object, ...]) -> None:
        made = by_rule(op, blank(args))
        if made is None:
            return
        kind = operator(op)
        pairs = list(zip(kind.parameters, args, strict=True))
        keyword = {parameter.name: value for parameter, value in pairs if parameter.keyword}
        expected = call_of(op)(*args[: len(args) - len(keyword)], **keyword)
        assert made == expected if isinstance(made, int) else made.shape == expected.shape

    holds()


@pytest.mark.parametrize("op", sorted(_SAME))
def test_what_keeps_the_shape_keeps_the_dtype(op: str):
    kind = operator(op)
    needed = [1.0 for parameter in kind.parameters[1:] if parameter.kind == "number"]
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(2, 3, 4, dtype=dtype, device="meta")
        expected, made = call_of(op)(x, *needed), by_rule(op, (Blank.of(x), *needed))
        assert made == Blank.of(expected)


def test_a_clamp_without_bounds_is_pytorchs_to_refuse():
    assert by_rule("clamp", (Blank((2,), "float32"), None, None)) is None


def size_of(op: str, args: tuple[object, ...]) -> tuple[int, ...]:
    made = by_rule(op, args)
    assert isinstance(made, Blank)
    return made.shape


@pytest.mark.parametrize("op", sorted(_WHOLE))
def test_sizes_of_sizes_are_pytorchs(op: str):
    @given(NUMBER, NUMBER)
    def holds(a: int, b: int) -> None:
        made = by_rule(op, (a, b))
        assert made is None if min(a, b) <= 0 else made == call_of(op)(a, b)

    holds()


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int8, torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.complex64]
)
def test_a_blank_knows_what_its_numbers_would_take(dtype: torch.dtype):
    tensor = torch.empty(3, 5, dtype=dtype)
    assert (Blank.of(tensor).size, Blank.of(tensor).bytes) == (15, tensor.nbytes)


def test_the_usual_is_answered():
    """So that the rules are not silent: the layers of a plain network."""
    x, w = Blank((2, 3, 8, 8), "float32"), Blank((4, 3, 3, 3), "float32")
    assert size_of("conv2d", (x, w, None, [2, 2], [1, 1], [1, 1], 1)) == (2, 4, 4, 4)
    assert size_of("max_pool2d", (x, [2, 2], [], [0, 0], [1, 1], False)) == (2, 3, 4, 4)
    assert size_of("flatten.using_ints", (x, 1, -1)) == (2, 192)
    assert size_of("view", (x, [2, -1])) == (2, 192)
    assert by_rule("softmax.int", (x, 1, None)) is None
    assert by_rule("conv2d", (x, w, None, [0, 0], [1, 1], [1, 1], 1)) is None
