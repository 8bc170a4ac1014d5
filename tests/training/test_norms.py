"""Statistics taken anew, by hand."""

import pytest
import torch
from torch import nn

from harp.training import renew, renewed


def network():
    return nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten())


def images(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_they_are_the_mean_over_batches():
    """Means 1 and 4; variances without bias 2 and 0."""
    model = network()
    renew(model, [images(0.0, 2.0), images(4.0, 4.0)])
    assert model[0].running_mean.item() == pytest.approx(2.5)
    assert model[0].running_var.item() == pytest.approx(1.0)
    assert model[0].momentum == 0.1
    assert model.training
    assert model[0].training


def test_whoever_makes_the_batches_sees_the_old_statistics_in_eval_mode():
    model, seen = network(), []

    def made():
        for value in (3.0, 5.0):
            seen.append((model[0].running_mean.item(), model[0].training, model[1].training))
            yield images(value, value)
        seen.append((model[0].running_mean.item(), model[0].training, model[1].training))

    renew(model, made())
    assert seen == [(0.0, False, False)] * 3
    assert model[0].running_mean.item() == 4


def test_afterwards_all_is_as_before():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with renewed(model, [images(0.0, 2.0)]):
        assert model[0].running_mean.item() == 1
        assert model[0].num_batches_tracked.item() == 1
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("model", "batches"),
    [(network(), []), (nn.Flatten(), [images(0.0, 2.0)]), (nn.BatchNorm2d(1, track_running_stats=False), [])],
)
def test_without_batches_or_statistics_nothing_changes(model, batches):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    renew(model, batches)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
