import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.modes import evaluating


def mixed_modes():
    """A model in train mode whose batch normalisation is kept in eval mode."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout()))
    model.train()
    model[1].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_all_modules_are_in_eval_mode_inside_and_as_before_after():
    model = mixed_modes()
    before = modes(model)
    with evaluating(model):
        assert not any(modes(model))
    assert modes(model) == before == [True, True, False, True, True]


def test_a_model_in_eval_mode_stays_there():
    model = nn.Linear(2, 2).eval()
    with evaluating(model):
        pass
    assert not model.training


def test_modes_come_back_after_an_error():
    model = mixed_modes()
    with pytest.raises(RuntimeError, match="inside"), evaluating(model):
        raise RuntimeError("inside")
    assert modes(model) == [True, True, False, True, True]


def test_one_inside_another():
    model = mixed_modes()
    with evaluating(model), evaluating(model):
        pass
    assert modes(model) == [True, True, False, True, True]


def test_what_a_module_caches_while_in_eval_mode_is_dropped_afterwards():
    class Caches(nn.Linear):
        cache = None

        def train(self, mode=True):
            if mode:
                self.cache = None
            return super().train(mode)

        def forward(self, x):
            if self.training:
                return super().forward(x)
            self.cache = self.weight.detach().clone() if self.cache is None else self.cache
            return nn.functional.linear(x, self.cache, self.bias)

    model, x = Caches(3, 2).train(), torch.ones(1, 3)
    for _ in range(2):
        with evaluating(model):
            assert torch.equal(model(x), nn.functional.linear(x, model.weight, model.bias))
        with torch.no_grad():
            model.weight.add_(1)


def test_an_exported_module_is_refused_since_its_mode_is_fixed():
    example = torch.ones(2, 2)
    exported = torch.export.export(nn.Linear(2, 2).eval(), (example,)).module()
    with pytest.raises(HarpError, match="exported in one mode for good"), evaluating(exported):
        pass
