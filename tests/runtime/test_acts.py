"""Activations agree with PyTorch far out as well, and one image with a block of images."""

from dataclasses import replace

import pytest
import torch

from harp.graph import Graph, Node, Ref, run
from harp.runtime import Engine, compile
from harp.runtime.acts import ACTS
from tests.runtime.graphs import ACTS as ARGUMENTS, BUILT, conv

FURTHER = {"clamp": (None, 0.5), "clamp_min": (-0.5,), "gelu": ("tanh",), "hardtanh": (-1, 1)}
CASES = [*ARGUMENTS.items(), *FURTHER.items(), ("clamp", (-0.25, None)), ("clamp", (-2.0, 2.0))]
PLACES = torch.cat([torch.linspace(-12, 12, 49), torch.tensor([-1e30, -90.0, -1e-6, 1e-6, 90.0, 1e30])])


def test_all_are_here():
    assert {op for op, _ in CASES} == ACTS.keys()


def network(op: str, arguments: tuple[float, ...]) -> Graph:
    """The activation behind a convolution that changes nothing; activations alone are left to PyTorch."""
    nodes = (
        conv("c", "x", 1, 0, 1, 1, bias=False),
        Node("a", op, (Ref("c"), *arguments)),
        Node("y", "flatten.using_ints", (Ref("a"), 1, -1)),
    )
    return Graph("x", (1, 1, len(PLACES)), nodes, "y", {"c.w": torch.ones(1, 1, 1, 1)})


@pytest.mark.parametrize(("op", "arguments"), CASES)
@pytest.mark.parametrize("variant", BUILT)
def test_an_activation_is_pytorchs(variant: str, op: str, arguments: tuple[float, ...]):
    graph = network(op, arguments)
    engine = compile(graph, variant=variant)
    assert isinstance(engine, Engine)
    for images in (1, 17):
        x = PLACES.repeat(images, 1, 1, 1)
        expected = run(replace(graph, tensors={"c.w": graph.tensor("c.w").double()}), x.double())
        assert ((engine(x) - expected).abs() / expected.abs().clamp(min=1)).max() <= 4e-7


@pytest.mark.parametrize(("op", "arguments"), CASES)
@pytest.mark.parametrize("variant", BUILT)
def test_nan_stays_nan(variant: str, op: str, arguments: tuple[float, ...]):
    x = torch.full((1, 1, 1, len(PLACES)), float("nan"))
    assert compile(network(op, arguments), variant=variant)(x).isnan().all()


STEPS = torch.cat([torch.logspace(-45, 1, 4001, dtype=torch.float64).float(), torch.linspace(0, 10, 20001)])
DENSE = torch.cat([STEPS, -STEPS, torch.tensor([float("inf"), -float("inf"), 3e38, -3e38])])


def beside(op: str, arguments: tuple[str, ...]) -> Graph:
    """The activation of the images themselves, and behind it a convolution, without which no engine would run."""
    nodes = (
        Node("a", op, (Ref("x"), *arguments)),
        conv("c", "x", 1, 0, 1, 1, bias=False),
        Node("b", op, (Ref("c"), *arguments)),
        Node("s", "cat", ((Ref("a"), Ref("b")), 1)),
        Node("y", "flatten.using_ints", (Ref("s"), 1, -1)),
    )
    return Graph("x", (1, 1, len(DENSE)), nodes, "y", {"c.w": torch.ones(1, 1, 1, 1)})


def ulps(made: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """How many float32 numbers `made` is away from `expected` in float64."""
    exponent = torch.frexp(expected).exponent.clamp(min=-125)
    return (made.double() - expected).abs() / torch.ldexp(torch.ones_like(expected), exponent - 24)


@pytest.mark.parametrize("images", [1, 17])
@pytest.mark.parametrize("variant", BUILT)
def test_tanh_is_right_to_two_units_in_the_last_place(variant: str, images: int):
    expected = DENSE.double().tanh()
    engine = compile(beside("tanh", ()), variant=variant)
    assert isinstance(engine, Engine)
    for made in engine(DENSE.repeat(images, 1, 1, 1)).view(images * 2, -1):
        assert ulps(made, expected).max() <= 2
        assert bool((made.abs() <= 1).all())
    zeros = engine(torch.full((1, 1, 1, len(DENSE)), -0.0))[0, : len(DENSE)]
    assert bool(zeros.signbit().all())
    assert not zeros.any()


@pytest.mark.parametrize("variant", BUILT)
def test_gelu_by_tanh_is_as_near_as_pytorchs(variant: str):
    """Below 0 the formula takes the tanh from 1, so its error is one of x / 2."""
    x = DENSE[DENSE.abs() < 1e30]
    expected = torch.nn.functional.gelu(x.double(), approximate="tanh")
    made = compile(beside("gelu", ("tanh",)), variant=variant)(DENSE.view(1, 1, 1, -1)).view(2, -1)
    for found in made[:, DENSE.abs() < 1e30]:
        assert ulps(found, expected)[x >= 0].max() <= 2
        assert bool(((found - expected).abs() <= x.abs() * 2**-23 + 2**-149).all())


@pytest.mark.parametrize("variant", BUILT)
def test_silu_of_what_is_far_below_0_is_none(variant: str):
    x = torch.tensor([-88.0, -100.0, -1e20, -3.4e38]).expand(len(DENSE) // 4, 4).reshape(1, 1, 1, -1)
    made = compile(beside("silu", ()), variant=variant)(torch.nn.functional.pad(x, (0, len(DENSE) % 4)))
    assert bool((made.abs() < 1e-36).all())


def test_an_elu_with_other_scales_is_left_to_pytorch():
    assert ACTS["elu"]((None, 1.0, 1.5, 1.0)) is None
    assert ACTS["elu"]((None, 1.0, 1.0, 2.0)) is None
