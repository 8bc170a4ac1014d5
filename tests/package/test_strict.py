import math

import pytest
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.package.strict import DEEPEST, dumps, loads, record, short, whole

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4), max_leaves=8
)


@given(VALUES)
def test_round_trip(value):
    assert loads(dumps(value), "it") == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_stay_floats_bit_for_bit(value):
    found = loads(dumps(value), "it")
    assert (type(found), found, math.copysign(1, found)) == (float, value, math.copysign(1, value))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not strict JSON"),
        (b"{", "not strict JSON"),
        (b"[1] 2", "not strict JSON"),
        (b"\xff", "not strict JSON"),
        (b'"\xed\xa0\x80"', "not strict JSON"),
        (b'"\\ud800"', "not strict JSON"),
        (b'{"a": 1, "a": 1}', "a key twice"),
        (b'[{"a": {"b": 1, "b": 2}}]', "a key twice"),
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"1e999", "1e999 is beyond a double"),
        (b"9" * 5000, "not strict JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 40 + b"]" * 40, "nested too deep; at most 32"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested too deep; at most 32"),
    ],
)
def test_what_is_not_strict_is_refused(data, message):
    with pytest.raises(HarpError, match=message):
        loads(data, "its manifest")


def test_as_deep_as_allowed():
    assert loads(b"[" * DEEPEST + b"]" * DEEPEST, "it")


def test_escaped_pairs_are_text():
    assert loads(b'"\\ud83d\\ude00\\u00e9"', "it") == "\U0001f600é"


def test_records():
    kinds = {"a": int, "b": str}
    assert record({"a": 1}, "it", {"a": int}, kinds) == {"a": 1}
    for value, message in (
        ([], "it: expected an object, found"),
        ({}, "it: 'a' is missing"),
        ({"a": True}, "expected a to be of kind int, found True"),
        ({"a": 1.0}, "expected a to be of kind int, found 1.0"),
        ({"a": 1, "bb": 2}, "unknown key 'bb'; did you mean 'b'"),
    ):
        with pytest.raises(HarpError, match=message):
            record(value, "it", {"a": int}, kinds)


@pytest.mark.parametrize("value", [-1, 11, 1.0, True, "1", None, [1], math.nan])
def test_whole_numbers(value):
    assert whole([0, 10], "it", 0, 10) == (0, 10)
    with pytest.raises(HarpError, match="it: expected integers from 0 to 10"):
        whole([value], "it", 0, 10)


def test_messages_stay_short_and_printable():
    assert short("\x1b[2J\n\ud800") == r"'\x1b[2J\n\ud800'"
    assert len(short("a" * 10**6)) == 80
    assert short(list(range(10**6))) == "list"
