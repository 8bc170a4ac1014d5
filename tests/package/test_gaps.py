import numpy
import pytest
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.package.gaps import MOST_LOW, Code, decode, encode

LISTS = st.lists(st.integers(0, 400) | st.integers(0, 2**33), max_size=60)


def array(data: bytes):
    return numpy.frombuffer(data, numpy.uint8)


def coded(*index):
    return encode(numpy.array(index, numpy.int64))


@given(LISTS)
def test_round_trip_of_any_gaps(gaps):
    index = numpy.cumsum(numpy.array(gaps, numpy.int64) + 1) - 1
    code, data = encode(index)
    assert code.bytes == len(data)
    assert decode(code, array(data), int(index[-1]) + 1 if gaps else 0).tolist() == index.tolist()


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_round_trip_of_any_density(seed, density):
    index = numpy.flatnonzero(numpy.random.default_rng(seed).random(3000) < density)
    code, data = encode(index)
    assert (decode(code, array(data), 3000) == index).all()
    assert len(data) <= 375  # never longer than the bitmask


def test_one_gap_by_hand():
    # 13 = 0b1101, in two high and two low bits: 0001 and 01, or with other `low` as many bytes.
    code = Code(1, 2, 4)
    assert decode(code, array(bytes([0b1000, 0b01])), 14).tolist() == [13]


def test_without_low_bits_it_is_the_bitmask():
    mask = numpy.random.default_rng(0).random(80) < 0.6
    code, data = encode(numpy.flatnonzero(mask))
    assert (code.low, code.count) == (0, mask.sum())
    assert data == numpy.packbits(mask[: code.high], bitorder="little").tobytes()


def test_the_parameter_is_the_shortest_of_all():
    gaps = numpy.random.default_rng(0).geometric(0.01, 5000) - 1
    code, _ = encode(numpy.cumsum(gaps + 1) - 1)
    lengths = {low: Code(5000, low, 5000 + int((gaps >> low).sum())).bytes for low in range(20)}
    assert code.bytes == min(lengths.values())


def test_close_to_the_entropy_of_a_random_mask():
    count, size = 15_300, 1_530_000
    index = numpy.sort(numpy.random.default_rng(0).choice(size, count, replace=False))
    _, data = encode(index)
    assert 8 * len(data) / count < 8.12  # log2 C(n, k) / k = 8.08


def test_huge_gaps_keep_low_bits_within_bounds():
    code, data = coded(2**40, 2**41)
    assert code.low == MOST_LOW
    assert decode(code, array(data), 2**42).tolist() == [2**40, 2**41]


@pytest.mark.parametrize(
    ("code", "data", "message"),
    [
        (Code(2, 0, 1), b"\1", "impossible"),
        (Code(-1, 0, 3), b"\1", "impossible"),
        (Code(1, 25, 1), b"\1\0\0\0\0", "impossible"),
        (Code(1, -1, 1), b"\1", "impossible"),
        (Code(1, 10**9, 1), b"\1", "impossible"),
        (Code(10**12, 24, 10**13), b"\1", "ends early"),
        (Code(1, 3, 1), b"\1", "ends early"),
        (Code(1, 0, 1), b"\1\0", "ends early"),
        (Code(1, 0, 2), b"\1", "does not hold"),
        (Code(1, 0, 2), b"\3", "does not hold"),
        (Code(2, 0, 3), b"\4", "does not hold"),
        (Code(1, 0, 1), b"\5", "does not hold"),
        (Code(0, 0, 1), b"\1", "does not hold"),
        (Code(1, 2, 1), b"\1\4", "after its end"),
        (Code(1, 3, 1), b"\1\5", "leaves the tensor"),
        (Code(2, 24, 2), b"\3" + b"\xff" * 6, "leaves the tensor"),
    ],
)
def test_impossible_codes_are_refused(code, data, message):
    with pytest.raises(HarpError, match=message):
        decode(code, array(data), 5)
