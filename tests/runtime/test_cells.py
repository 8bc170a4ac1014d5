"""The builds that keep 16 bits between layers: what they store is PyTorch's float16, and logits are near float32's."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, to_arrays
from harp.runtime import Alone, Engine, compile
from tests.runtime.graphs import BUILT, FP16, error, graphs, one

pytestmark = pytest.mark.skipif(not FP16, reason="the sparse engine is not built here")


def stored(x: torch.Tensor, variant: str) -> torch.Tensor:
    """The values [n, h, w] as the build stores them: flattened images, and a convolution by 1."""
    images = x[:, None].contiguous()
    flat = Graph("x", tuple(images.shape[1:]), (Node("y", "flatten.using_ints", (Ref("x"), 1, -1)),), "y", {})
    copied = one(torch.ones(1, 1, 1, 1), (1, *x.shape[1:]), padding=0)
    made = [torch.from_numpy(Alone(to_arrays(graph), variant=variant)(images.numpy())) for graph in (flat, copied)]
    assert torch.equal(*(found.nan_to_num(0.0) for found in made))
    return made[0].view(x.shape)


@pytest.mark.parametrize("variant", FP16)
def test_every_number_of_16_bits_is_stored_as_it_is(variant: str):
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.float16).view(4, 128, 128)
    assert torch.equal(stored(every.float(), variant).nan_to_num(0.5), every.float().nan_to_num(0.5))


@pytest.mark.parametrize("variant", FP16)
def test_others_are_rounded_to_the_nearest(variant: str):
    draws = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (2, 64, 64), generator=draws).to(torch.int32)
    between = torch.arange(1, 2**15 - 2**10, 7, dtype=torch.int32).to(torch.int16).view(torch.float16).double()
    halves = ((between[:-1] + between[1:]) / 2).float()[:4096].view(1, 64, 64)  # 7 apart, so some lie in the middle
    ties = (torch.arange(4096) * 2**-25).view(1, 64, 64)  # of the smallest numbers
    for x in (bits.view(torch.float32), halves, -halves, ties, torch.tensor([65519.0, 65520.0]).view(1, 1, 2)):
        assert torch.equal(stored(x, variant).nan_to_num(0.5), x.half().float().nan_to_num(0.5))


@pytest.mark.parametrize("variant", FP16)
@settings(max_examples=120)
@given(graph=graphs(), images=st.sampled_from([1, 2, 5, 17]))
def test_any_graph(variant: str, graph: Graph, images: int):
    """Near what PyTorch gives in float32; where large numbers cancel, 16 bits of them leave few of what remains."""
    x = torch.rand(images, *graph.shape, generator=torch.Generator().manual_seed(images)) * 2 - 1
    mine, _ = error(graph, compile(graph, variant=variant)(x), x)
    assert mine <= 0.05


def test_it_is_asked_for_by_name():
    graph = one(torch.ones(1, 1, 1, 1), (1, 2, 2), padding=0)
    engine = compile(graph, precision="fp16")
    assert isinstance(engine, Engine)
    assert engine.build.variant == FP16[0]
    assert Alone(to_arrays(graph), precision="fp16").build.variant == FP16[0]
    assert Alone(to_arrays(graph)).build.variant == BUILT[0]
    with pytest.raises(HarpError, match="no precision 'fp8' of the sparse engine; there are: fp32, fp16"):
        compile(graph, precision="fp8")  # type: ignore[arg-type]
