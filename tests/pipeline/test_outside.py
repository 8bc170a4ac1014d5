"""Networks that know more than their state: found before training where that is possible, and after it in any case."""

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.networks.named import load_model
from harp.pipeline.outside import check_network, differing
from harp.stages import run_stages
from tests.tiny import workspace

NETS = '''
import random
import numpy
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, 8), nn.ReLU(), nn.Linear(8, classes))
        self.hold()

    def hold(self):
        pass

    def forward(self, x):
        return self.body(x)


class Attribute(Net):
    def hold(self):
        self.gate = torch.rand(10)

    def forward(self, x):
        return self.body(x) * self.gate


class Number(Net):
    def hold(self):
        self.options = {"scales": [1.0, random.random() + 2]}

    def forward(self, x):
        return self.body(x) * self.options["scales"][1]


class Hidden(Net):
    def hold(self):
        self.register_buffer("shift", torch.rand(10), persistent=False)

    def forward(self, x):
        return self.body(x) + self.shift


class Moving(Net):
    def hold(self):
        self.mean = torch.zeros(10)

    def forward(self, x):
        y = self.body(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y - self.mean


class Late(Net):
    """What it knows moves only after many a pass: nothing to be seen before training."""

    def hold(self):
        self.passes, self.scale = 0, 1.0

    def forward(self, x):
        if self.training:
            self.passes += 1
            if self.passes > 3:
                self.scale = 2.0
        return self.body(x) * self.scale


class Honest(Net):
    """Holds much of its own, and none of it matters, or all of it is the same each time."""

    def hold(self):
        self.born, self.calls, self.norm = torch.rand(3), 0, float(self.body[1].weight.detach().norm())
        self.register_buffer("index", torch.arange(10), persistent=False)
        self.drop, self.names = nn.Dropout(0.5), ["a", "b"]

    def forward(self, x):
        self.calls += 1
        return self.drop(self.body(x))[:, self.index]


class Normed(Net):
    def hold(self):
        self.norm = nn.BatchNorm1d(10)

    def forward(self, x):
        return self.norm(self.body(x))


class Noisy(Net):
    def forward(self, x):
        y = self.body(x)
        return y + 0.1 * torch.rand_like(y)


class Noisier(Net):
    def forward(self, x):
        y = self.body(x)
        return y + 0.1 * torch.from_numpy(numpy.random.rand(*y.shape)).float()
'''


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


def model(nets, name):
    return {"name": f"{nets}:{name}", "width": 1.0}


@pytest.mark.parametrize(
    ("name", "named"), [("Attribute", "gate"), ("Number", "options"), ("Hidden", "shift"), ("Moving", "mean")]
)
def test_a_network_that_knows_more_than_its_state_is_refused_before_training(nets, tmp_path, name, named):
    with pytest.raises(HarpError, match=rf"nets.py:{name}: the network's answers depend on .*not hold \({named}\)"):
        run_stages(workspace(tmp_path / "run", model=model(nets, name)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["Net", "Honest", "Normed", "Noisy", "Noisier"])
def test_what_does_not_matter_and_what_is_random_at_every_call_is_no_obstacle(nets, tmp_path, name):
    check_network(workspace(tmp_path, model=model(nets, name)))


def test_what_moves_in_training_is_found_at_the_end_of_the_stage(nets, tmp_path):
    work = workspace(tmp_path / "run", model=model(nets, "Late"), pretrain={"epochs": 1, "selection": "last"})
    with pytest.raises(HarpError, match=r"1-pretrain/model.safetensors: .*not hold \(passes, scale\)"):
        run_stages(work, ["pretrain"])
    assert not (tmp_path / "run" / "1-pretrain" / "done.json").exists()


def test_a_file_for_such_a_network_is_not_loaded(nets, tmp_path):
    work = workspace(tmp_path / "run", model=model(nets, "Net"), pretrain={"epochs": 1, "selection": "last"})
    run_stages(work, ["pretrain"])
    weights = tmp_path / "run" / "1-pretrain" / "model.safetensors"
    assert isinstance(load_model(f"{nets}:Net", weights, "digits"), nn.Module)
    with pytest.raises(HarpError, match=r"model.safetensors: the network's answers depend on .* \(gate\)"):
        load_model(f"{nets}:Attribute", weights, "digits")


class Holder(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.inner = nn.Linear(1, 1)
        self.inner.value = value


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (1, 1.0),
        (True, False),
        (None, 1),
        ("a", "b"),
        (torch.ones(2), torch.zeros(2)),
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2).numpy(), torch.zeros(2).numpy()),
        ([1, [2]], [1, [3]]),
        ((1,), (1, 2)),
        ({"a": torch.ones(1)}, {"a": torch.zeros(1)}),
        ({"a": 1}, {"b": 1}),
        (torch.Generator().manual_seed(0), 1),
    ],
)
def test_what_differs_is_named(first, second):
    assert list(differing(Holder(first), Holder(second))) == ["inner.value"]
    assert list(differing(Holder(first), Holder(first))) == []
    assert list(differing(Holder(float("nan")), Holder(float("nan")))) == []


def test_parameters_and_persistent_buffers_are_not_named():
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.zeros_(first.weight)
    first.get_buffer("running_mean").add_(1)
    assert list(differing(first, second)) == []
    for module, value in ((first, 1.0), (second, 2.0)):
        module.register_buffer("hidden", torch.tensor(value), persistent=False)
    assert list(differing(first, second)) == ["hidden"]
