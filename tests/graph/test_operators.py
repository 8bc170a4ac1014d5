import json
from typing import Any

import pytest
import torch

from harp.errors import HarpError
from harp.graph import calls, operators
from harp.graph.calls import call_of
from harp.graph.operators import OPERATORS, operator


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_is_one_of_pytorch_and_changes_nothing(name):
    found = operator(name)
    assert found.parameters
    call: Any = call_of(name)
    schema = getattr(call, "_schema", None)
    assert name == "getitem" or (schema is not None and not schema.is_mutable)
    if schema is not None and name != "scaled_dot_product_attention":
        assert torch.Tag.nondeterministic_seeded not in call.tags


def test_schemas_are_those_of_pytorch():
    """Of a torch that says otherwise the file is to be written anew: `python -m harp.graph.calls`."""
    assert json.loads(json.dumps(calls.schemas())) == operators._schemas()


def test_defaults_come_from_the_schema():
    parameters = {parameter.name: parameter.default for parameter in operator("conv2d").parameters}
    assert parameters == {
        "input": None,
        "weight": None,
        "bias": None,
        "stride": (1, 1),
        "padding": (0, 0),
        "dilation": (1, 1),
        "groups": 1,
    }


def test_an_unknown_operator_names_the_nearest():
    with pytest.raises(HarpError, match="operator 'conv2' is none that a graph may use; did you mean 'conv2d'"):
        operator("conv2")


def test_a_factory_makes_a_tensor_of_none():
    assert operator("full").factory
    assert not operator("full_like").factory
