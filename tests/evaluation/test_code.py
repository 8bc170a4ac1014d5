"""What counts as another network though its weights are the same."""

import functools
import importlib.util
from typing import Any

import pytest
import torch
import torch.fx
from torch import nn

from harp.attacks import PGD
from harp.evaluation.code import code_of
from harp.models import Function

NET = """
from torch import nn
def squash(x):
    "To eight grey levels."
    return (x * 8).round() / 8
class Base(nn.Module):
    def prepared(self, x):
        return squash(x)
class Net(Base):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def forward(self, x):
        # the whole network
        return self.layer(self.prepared(x).flatten(1))
def unrelated():
    return 1
"""


@pytest.fixture
def built(tmp_path):
    """The network of a module with that source, loaded under another name each time."""
    count = 0

    def build(source):
        nonlocal count
        count += 1
        path = tmp_path / f"net{count}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Net()

    return build


def digests(*things):
    return code_of(things)[0]


def test_the_functions_that_a_network_runs_are_named(built):
    assert set(digests(built(NET))) == {"Base.prepared", "Net.__init__", "Net.forward", "squash"}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("(x * 8).round() / 8", "(x * 8).floor() / 8", {"squash"}),
        (".flatten(1))", ".flatten(1)) * 2", {"Net.forward"}),
        ("return squash(x)", "return x", {"Base.prepared", "squash"}),
        ("# the whole network", "# the network", set()),
        ('"To eight grey levels."', '"Coarser."', set()),
        ("(x * 8)", "( x*8 )", set()),
        ("return 1", "return 2", set()),
    ],
)
def test_a_mended_function_is_another_comments_and_other_functions_are_not(built, old, new, changed):
    before, after = digests(built(NET)), digests(built(NET.replace(old, new)))
    assert {name for name, _ in set(before.items()) ^ set(after.items())} == changed


def test_what_pytorch_and_harp_wrote_is_known_by_their_versions():
    assert digests(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), PGD(), Function(torch.relu)) == {}


def behind(network, times=1.0):
    return lambda x: network(x) * times


def test_networks_in_closures_arguments_and_attributes_are_found():
    network = nn.Linear(4, 2)
    ways = behind(network), functools.partial(behind, network), network.forward, Function(behind(network))
    for way in ways:
        assert network in code_of([way])[1]
    assert digests(behind(network)) == digests(behind(nn.Linear(4, 2)))
    assert set(digests(behind(network))) == {"<lambda>"}


def test_methods_and_hooks_put_on_an_instance_count():
    plain, changed = nn.Linear(4, 2), nn.Linear(4, 2)
    changed.forward = lambda x: x  # type: ignore[assignment, method-assign]
    hooked = nn.Linear(4, 2)
    hooked.register_forward_pre_hook(lambda module, args: None)
    assert digests(plain) == {}
    assert digests(changed).keys() == digests(hooked).keys() == {"<lambda>"}
    assert digests(changed) != digests(hooked)


def typed_in(text):
    space: dict[str, Any] = {}
    exec(compile(text, "<typed>", "exec"), space)
    return space["f"]


def test_without_source_the_compiled_code_counts():
    first, same, other = (typed_in(f"def f(x):\n    return x in {{'a', 'b'}} or {n}") for n in (1, 1, 2))
    assert digests(first) == digests(same) != digests(other)


class Times(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return self.by * x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "made", [torch.fx.symbolic_trace, lambda model: torch.jit.trace(model, torch.ones(1))], ids=["fx", "script"]
)
def test_graphs_are_known_by_their_code(made):
    first, same, other = (digests(made(Times(by))) for by in (2, 2, 3))
    assert first == same != other
