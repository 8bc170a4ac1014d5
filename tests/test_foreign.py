import pytest
import torch

from harp.sparsity import find_sites

from .foreign import CLASSES, FOREIGN, bare, images, varies


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_network_is_tiny_gives_logits_that_vary_and_is_the_same_every_time(name):
    model, again = FOREIGN[name](), FOREIGN[name]().state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
    assert model(images()).shape == (len(images()), CLASSES)
    assert varies(model)


def test_a_constant_network_is_noticed():
    model = FOREIGN["vit"]()
    torch.nn.init.zeros_(model.get_parameter("model.classifier.weight"))
    assert not varies(model)


def test_a_bare_network_keeps_its_wrapped_output():
    assert not isinstance(bare("resnet")(images()), torch.Tensor)


@pytest.mark.parametrize("name", FOREIGN)
def test_every_weight_of_a_foreign_network_matters(name):
    model = FOREIGN[name]()
    model(images(8)).square().sum().backward()
    assert not [site.name for site in find_sites(model) if site.param.grad is None or not site.param.grad.any()]
