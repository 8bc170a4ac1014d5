"""Networks nobody here wrote, as graphs: the logits stay the same, bit for bit."""

import pytest
import timm
import torch

from harp.graph import capture, check, run
from harp.models import MODELS, Normalised
from harp.modes import evaluating, frozen
from tests.foreign import CLASSES, FOREIGN, FURTHER, SIZE, images, pruned
from tests.pace import quick

QUICK = ("convnext", "resnet", "vit")


def agrees(model, graph, x):
    """The graph's logits are the model's; frozen, since PyTorch takes other kernels where gradients may be wanted."""
    check(graph)
    with torch.no_grad(), evaluating(model), frozen(model):
        return torch.equal(run(graph, x), model(x)) and graph.batch is None


def same(model, x):
    return agrees(model, capture(model, x[:1]), x)


@pytest.mark.parametrize("name", quick(QUICK, sorted(FOREIGN.keys() | FURTHER.keys())))
def test_a_foreign_network_is_its_graph(name):
    model, graph = pruned(name)
    assert agrees(model, graph, images(3))


@pytest.mark.parametrize("name", ["test_efficientnet"])
def test_so_is_one_of_timm(name):
    torch.manual_seed(0)
    assert same(timm.create_model(name, num_classes=CLASSES), torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("name", quick(["resnet18"], ["vgg16_bn", "resnet18"]))
def test_so_are_our_own(name):
    torch.manual_seed(0)
    model = MODELS[name](classes=CLASSES, channels=3, size=SIZE, width=0.125)
    assert same(Normalised(model, [0.4, 0.5, 0.6], [0.2, 0.2, 0.3]), images(3))
