import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.graph import Sparse
from harp.graph.tensors import to_tensor
from harp.package.codec import DTYPES, Coding, Entry, Reader, decode, kind_of
from harp.package.encoding import Writer, encode
from harp.package.gaps import Code
from tests.package.networks import bits, pruned

FLOATS = ("float64", "float32", "float16", "bfloat16")
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
# Bit patterns of float32 that arithmetic would not keep: -0.0, subnormals, quiet and signalling NaNs with payloads.
ODD = (0x80000000, 1, 0x80000001, 0x7FC12345, 0xFF812345, 0x7F800000, 0xFF800000)


def stored(tensor, name="t", dtype=torch.float32, axis=None):
    """The entry, the sections and what is decoded from them, everything used up."""
    writer = Writer()
    entry = encode(name, tensor, writer, dtype, axis)
    sections = writer.whole()
    reader = Reader({key: np.frombuffer(bytearray(data), kind_of(key)) for key, data in sections.items()})
    found = to_tensor(decode(entry, reader))
    assert not reader.left()
    return entry, sections, found


def dense(tensor):
    return tensor.dense() if isinstance(tensor, Sparse) else tensor


@given(st.sampled_from(sorted(DTYPES)), SHAPES, st.floats(0, 1), st.integers(0, 99))
def test_any_tensor_comes_back_bit_for_bit(name, shape, density, seed):
    tensor = (100 * pruned(shape, density, seed)).to(getattr(torch, name))
    entry, sections, found = stored(tensor)
    assert (dense(found).dtype, tuple(found.shape)) == (tensor.dtype, shape)
    assert bits(dense(found)) == bits(tensor)
    assert sum(map(len, sections.values())) <= tensor.nbytes
    assert name in FLOATS or entry.coding == Coding(name)


@given(st.lists(st.sampled_from((*ODD, 0, 0x3F800000)), min_size=1, max_size=200))
def test_float32_keeps_every_bit(patterns):
    tensor = torch.tensor(patterns, dtype=torch.uint32).view(torch.float32)
    assert bits(dense(stored(tensor)[2])) == bits(tensor)


@pytest.mark.parametrize("name", FLOATS)
def test_negative_zeros_are_values(name):
    tensor = torch.zeros(500, dtype=getattr(torch, name))
    tensor[123] = -0.0
    entry, _, found = stored(tensor)
    assert entry.coding.code is not None
    assert entry.coding.code.count == 1
    assert bits(found.dense()) == bits(tensor)


def test_mostly_zero_is_sparse_and_mostly_not_is_dense():
    assert isinstance(stored(pruned((40, 50), 0.3))[2], Sparse)
    entry, _, found = stored(pruned((40, 50), 0.7))
    assert entry.coding.code is not None  # in the file it is shorter without its zeros
    assert isinstance(found, torch.Tensor)
    assert stored(pruned((40, 50), 1.0))[0].coding.code is None


def test_sparse_in_is_as_dense_in():
    tensor = pruned((30, 20), 0.1)
    assert stored(Sparse.of(tensor))[1] == stored(tensor)[1]


def test_zeros_that_a_sparse_tensor_lists_are_left_out():
    tensor = Sparse((100,), torch.tensor([3, 50, 70]), torch.tensor([1.0, 0.0, -0.0]))
    assert stored(tensor)[2].index.tolist() == [3, 70]


def test_strided_tensors_are_stored_row_major():
    tensor = torch.arange(12.0).view(3, 4).t()
    assert torch.equal(stored(tensor)[2], tensor)


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_all_zero_takes_no_byte(size):
    _, sections, found = stored(torch.zeros(size, 3))
    assert sections == {}
    assert torch.equal(dense(found), torch.zeros(size, 3))


def test_a_dtype_the_format_has_not():
    with pytest.raises(HarpError, match=r"t is complex64.*there are: bfloat16"):
        stored(torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize("index", [[2, 1], [1, 1], [-1, 2], [5, 10], [1]])
def test_a_sparse_tensor_that_is_none(index):
    with pytest.raises(HarpError, match="must ascend within 10 positions"):
        stored(Sparse((10,), torch.tensor(index), torch.ones(2)))


def test_too_few_numbers_are_refused_before_they_are_allocated():
    reader = Reader({"float32": np.ones(5, np.float32), "index": np.ones(1, np.uint8)})
    with pytest.raises(HarpError, match=r"needs 1,000,000,000,000 more numbers of the section float32, which has 5"):
        decode(Entry("t", "float32", (10**6, 10**6), Coding("float32")), reader)
    with pytest.raises(HarpError, match="more numbers of the section int64, which has 0"):
        decode(Entry("t", "int64", (3,), Coding("int64")), reader)
    with pytest.raises(HarpError, match="more numbers of the section index"):
        decode(Entry("t", "float32", (10**12,), Coding("float32", Code(10**11, 3, 10**12))), reader)


def test_numbers_of_nobody_are_found():
    reader = Reader({"float32": np.ones(5, np.float32)})
    decode(Entry("t", "float32", (3,), Coding("float32")), reader)
    assert reader.left() == "the section float32 has 2 numbers that belong to no tensor"
