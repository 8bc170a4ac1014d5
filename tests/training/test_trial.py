import pytest
import torch
from torch import nn

from harp.training.trial import trial


def test_a_look_leaves_no_trace_and_sees_what_the_step_will_see():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    x = torch.randn(16, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held, drawn = dict(model.named_buffers()), torch.get_rng_state()
    looked = trial(model, lambda: model(x).square().sum())()
    assert all(buffer is held[name] for name, buffer in model.named_buffers())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    loss = model(x).square().sum()
    assert torch.equal(looked, loss)
    assert not torch.equal(model.get_buffer("1.running_mean"), before["1.running_mean"])
    # The step has moved the statistics in between, and the look can be differentiated all the same.
    slope, again = (torch.autograd.grad(value, model.get_parameter("0.weight"))[0] for value in (looked, loss))
    assert torch.equal(slope, again)


def test_a_look_that_fails_leaves_none_either():
    model = nn.BatchNorm1d(3)
    held = dict(model.named_buffers())

    def fail():
        model(torch.randn(4, 3))
        raise KeyError

    with pytest.raises(KeyError):
        trial(model, fail)()
    assert all(buffer is held[name] for name, buffer in model.named_buffers())
    assert model.num_batches_tracked == 0
