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


def test_an_elu_with_other_scales_is_left_to_pytorch():
    assert ACTS["elu"]((None, 1.0, 1.5, 1.0)) is None
    assert ACTS["elu"]((None, 1.0, 1.0, 2.0)) is None
