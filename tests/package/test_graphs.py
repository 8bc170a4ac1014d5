import json
import math

import pytest
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.graph import ArrayGraph, Node, Ref
from harp.package.codec import DTYPES, Coding, Entry
from harp.package.gaps import Code
from harp.package.graphs import entry_of, entry_value, graph_of, graph_value
from harp.package.strict import dumps, loads
from tests.package.networks import network

WORDS = st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | WORDS
ARGUMENTS = st.recursive(SCALARS | st.builds(Ref, WORDS), lambda part: st.lists(part, max_size=3).map(tuple))
NODES = st.builds(Node, WORDS, WORDS, st.lists(ARGUMENTS, max_size=5).map(tuple))
SHAPES = st.lists(st.integers(0, 2**11), max_size=4).map(tuple)


def again(value):
    return loads(dumps(value), "it")


@given(WORDS, SHAPES, st.lists(NODES, max_size=4).map(tuple), st.none() | st.integers(1, 99))
def test_any_graph_comes_back(name, shape, nodes, batch):
    graph = ArrayGraph(name, shape, nodes, name, {}, batch)
    found = graph_of(again(graph_value(graph)), {})
    assert found == graph
    # Equal to a bool or a float is not enough: an argument's type decides what an operator does.
    assert repr(found) == repr(graph)


def test_numbers_that_json_has_not():
    node = Node("n", "clamp", (Ref("x"), -math.inf, math.inf))
    assert repr(graph_of(again(graph_value(ArrayGraph("x", (1,), (node,), "n", {}))), {}).nodes) == repr((node,))


def test_an_argument_the_format_has_not():
    with pytest.raises(HarpError, match=r"an argument of a node is .*which a package cannot hold"):
        graph_value(ArrayGraph("x", (1,), (Node("n", "op", (3j,)),), "n", {}))
    with pytest.raises(HarpError, match="an argument of a node is nan, which a package cannot hold"):
        graph_value(ArrayGraph("x", (1,), (Node("n", "op", (math.nan,)),), "n", {}))


CODES = st.builds(Code, st.integers(0, 99), st.integers(0, 24), st.integers(0, 99))
CODINGS = st.sampled_from(["float32", "float16", "bfloat16"]).flatmap(
    lambda dtype: st.builds(Coding, st.just(dtype), st.none() | CODES)
)


@given(WORDS, SHAPES, CODINGS)
def test_any_entry_comes_back(name, shape, coding):
    entry = Entry(name, "float32", shape, coding)
    assert entry_of(again(entry_value(entry))) == entry


@given(SHAPES.filter(len), st.none() | CODES, st.none() | CODES)
def test_any_int8_entry_comes_back(shape, code, scales):
    entry = Entry("w", "float32", shape, Coding("int8", code), len(shape) - 1, Coding("float32", scales))
    assert entry_of(again(entry_value(entry))) == entry


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_what_is_usual_is_left_out(dtype):
    value = {"name": "t", "dtype": dtype, "shape": [2]}
    assert entry_value(entry_of(value)) == value


GOOD = {"name": "t", "dtype": "float32", "shape": [4, 4]}
CODE = {"count": 1, "low": 0, "high": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "expected name to be of kind str"),
        ({"offset": 3}, "unknown key 'offset'"),
        ({"dtype": "float8"}, "cannot be 'float8' stored as 'float8'"),
        ({"dtype": "__class__"}, "cannot be '__class__'"),
        ({"dtype": "float64", "stored": "float16"}, "cannot be 'float64' stored as 'float16'"),
        ({"stored": "int64"}, "cannot be 'float32' stored as 'int64'"),
        ({"shape": [-1]}, "expected integers from 0"),
        ({"shape": [2.0]}, "expected integers from 0"),
        ({"shape": ["2"]}, "expected integers from 0"),
        ({"shape": [True]}, "expected integers from 0"),
        ({"shape": [1] * 17}, "too large"),
        ({"shape": [2**40, 2**40]}, "too large"),
        ({"shape": [0, 2**40, 2**40]}, "too large"),
        ({"shape": [10**30]}, "expected integers from 0"),
        ({"sparse": None}, "expected sparse to be of kind dict"),
        ({"sparse": {"count": 1, "low": 0}}, "'high' is missing"),
        ({"sparse": CODE | {"count": 1.5}}, "expected count to be of kind int"),
        ({"sparse": CODE | {"count": -1}}, "expected integers from 0"),
        ({"sparse": CODE | {"high": 2**60}}, "expected integers from 0"),
        ({"sparse": CODE, "dtype": "int64"}, "never stored sparse"),
        ({"stored": "int8"}, "axis and scales belong to float32 stored as int8"),
        ({"stored": "int8", "axis": 0}, "axis and scales belong"),
        ({"axis": 0, "scales": {}}, "axis and scales belong"),
        ({"dtype": "int8", "axis": 0, "scales": {}}, "axis and scales belong"),
        ({"stored": "int8", "axis": 2, "scales": {}}, "expected integers from 0 to 1"),
        ({"stored": "int8", "axis": -1, "scales": {}}, "expected integers from 0 to 1"),
        ({"stored": "int8", "axis": 0, "scales": {"shape": [4]}}, "unknown key 'shape'"),
    ],
)
def test_impossible_entries_are_refused(change, message):
    with pytest.raises(HarpError, match=message):
        entry_of(GOOD | change)


GRAPH = json.loads(dumps(graph_value(network())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": [["n", "relu"]]}, "a node: expected"),
        ({"nodes": [{"name": "n"}]}, "a node: expected"),
        ({"nodes": [["n", 3, []]]}, "a node: expected"),
        ({"nodes": [["n", "relu", [{}]]]}, "expected a reference"),
        ({"nodes": [["n", "relu", [{"ref": "x", "float": "inf"}]]]}, "expected a reference"),
        ({"nodes": [["n", "relu", [{"float": "1.0"}]]]}, "expected a reference"),
        ({"nodes": [["n", "relu", [{"float": "nan"}]]]}, "expected a reference or inf, -inf"),
        ({"nodes": [["n", "relu", [{"ref": 1}]]]}, "expected ref to be of kind str"),
        ({"nodes": [["n", "relu", [2**63]]]}, "an argument: expected integers"),
        ({"nodes": "relu"}, "expected nodes to be of kind list"),
        ({"shape": [3, -1, 5]}, "expected integers"),
        ({"batch": 0}, "batch: expected integers from 1"),
        ({"batch": "1"}, "batch: expected integers from 1"),
        ({"weights": {}}, "unknown key 'weights'"),
    ],
)
def test_impossible_graphs_are_refused(change, message):
    with pytest.raises(HarpError, match=message):
        graph_of(GRAPH | change, {})


@pytest.mark.parametrize("value", [None, [], "x", 3, {}])
def test_what_is_no_graph_at_all(value):
    with pytest.raises(HarpError, match="the graph"):
        graph_of(value, {})
    with pytest.raises(HarpError, match="a tensor"):
        entry_of(value)
