import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, Sparse
from harp.package.precision import output_axes, precision
from tests.package.networks import network, pruned
from tests.package.test_codec import dense, stored

TINY = torch.finfo(torch.float32).tiny


@given(st.floats(0, 1), st.integers(0, 99), st.sampled_from([1e-40, 1e-3, 1.0, 1e30]), st.sampled_from([0, 1]))
def test_int8_is_within_half_a_step_of_its_channel(density, seed, scale, axis):
    weight = scale * pruned((6, 5, 3), density, seed)
    found = dense(stored(weight, dtype=torch.int8, axis=axis)[2])
    most = weight.abs().double().amax([i for i in range(3) if i != axis], keepdim=True)
    # A subnormal scale is rounded to a multiple of 1.4e-45.
    step = most / 127 * (1 + 1e-6) + 1.5e-45
    assert ((found.double() - weight.double()).abs() <= step * 0.5001 + 127 * 1.5e-45).all()


@given(st.floats(0, 1), st.integers(0, 99))
def test_half_precisions_round_to_the_nearest(density, seed):
    weight = pruned((40, 7), density, seed)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(dense(stored(weight, dtype=dtype, axis=0)[2]), weight.to(dtype).float())


def test_int8_by_hand():
    weight = torch.tensor([[1.27, -0.64, 0.004, 0.0], [0.0, 0.0, 0.0, 0.0], [-254.0, 2.0, 1.0, 3.0]])
    entry, sections, found = stored(weight, dtype=torch.int8, axis=0)
    # Ties go to the even neighbour: 1 / 2 to 0, 3 / 2 to 2; channel 1 has no scale.
    assert torch.frombuffer(bytearray(sections["int8"]), dtype=torch.int8).tolist() == [127, -64, -127, 1, 2]
    assert torch.allclose(
        torch.frombuffer(bytearray(sections["float32"]), dtype=torch.float32), torch.tensor([0.01, 2])
    )
    assert torch.allclose(dense(found), torch.tensor([[1.27, -0.64, 0, 0], [0, 0, 0, 0], [-254, 2, 0, 4.0]]))
    assert (entry.axis, entry.coding.stored) == (0, "int8")


def test_scales_of_empty_channels_take_no_room():
    weight = torch.zeros(1000, 8)
    weight[17] = 1
    entry, sections, _ = stored(weight, dtype=torch.int8, axis=0)
    assert len(sections["float32"]) == 4
    assert entry.scales.code.count == 1


def test_other_tensors_keep_their_bits():
    double = pruned((8, 8), 0.5).double() / 3
    assert torch.equal(dense(stored(double, dtype=torch.int8, axis=0)[2]), double)
    bias = pruned((8,), 1.0) / 3
    assert torch.equal(stored(bias, dtype=torch.float16, axis=None)[2], bias)


def test_what_a_precision_cannot_hold_is_refused():
    with pytest.raises(HarpError, match=r"w: 70000 is beyond the 65504 of torch.float16"):
        stored(torch.tensor([[1.0, -7e4]]), "w", torch.float16, 0)
    with pytest.raises(HarpError, match="w: int8 needs finite weights"):
        stored(torch.tensor([[1.0, torch.nan]]), "w", torch.int8, 0)
    with pytest.raises(HarpError, match=r"values: no precision 'fp8'; did you mean 'fp\d+'"):
        precision("fp8")


def test_only_weights_of_convolutions_and_linear_layers_are_narrowed():
    assert output_axes(network()) == {"conv.weight": 0, "fc.weight": 0}


def test_transposed_convolutions_have_outputs_in_their_second_axis():
    node = Node("y", "conv_transpose2d.input", (Ref("x"), Ref("w"), None, (1, 1), (0, 0), (0, 0), 1, (1, 1)))
    assert output_axes(Graph("x", (3, 4, 4), (node,), "y", {"w": torch.ones(3, 2, 1, 1)})) == {"w": 1}


def test_a_weight_that_is_also_read_as_something_else_is_not_narrowed():
    weight = torch.ones(4, 4)
    linear = Node("y", "linear", (Ref("x"), Ref("w"), None))
    added = Node("z", "add.Tensor", (Ref("y"), Ref("w"), 1))
    assert output_axes(Graph("x", (4,), (linear, added), "z", {"w": weight})) == {}
    twice = Node("y", "linear", (Ref("w"), Ref("w"), None))
    assert output_axes(Graph("x", (4,), (twice,), "y", {"w": weight})) == {}
    computed = Node("y", "linear", (Ref("x"), Ref("x"), None))
    assert output_axes(Graph("x", (4,), (computed,), "y", {})) == {}


def test_weights_that_round_to_zero_leave():
    weight = torch.zeros(1, 100)
    weight[0, :2] = torch.tensor([1.0, 1e-9])
    found = stored(weight, dtype=torch.float16, axis=0)[2]
    assert isinstance(found, Sparse)
    assert found.index.tolist() == [0]
