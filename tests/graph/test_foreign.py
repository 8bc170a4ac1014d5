"""Networks nobody here wrote, as graphs: the logits stay the same, bit for bit."""

import pytest
import timm
import torch
import transformers as hf

from harp.graph import capture, check, run
from harp.models import MODELS, Logits, Normalised
from harp.modes import evaluating, frozen
from tests.foreign import CLASSES, FOREIGN, SIZE, images

VIT = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PYRAMID = {
    "hidden_sizes": [8, 16],
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "num_attention_heads": [1, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
}
SLOW = {"levit", "mobilenet_v2", "mobilevit"}  # hundreds of steps, for which torch.export takes 4 to 7 seconds
FURTHER = {
    "Beit": VIT,
    "Bit": {"embedding_size": 8, "hidden_sizes": [32, 32], "depths": [1, 1], "num_groups": 4},
    "Dinov2": VIT | {"mlp_ratio": 2},
    "EfficientNet": {
        "image_size": SIZE,
        "width_coefficient": 0.05,
        "hidden_dim": 64,
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "kernel_sizes": [3, 5],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6],
        "depthwise_padding": [],
    },
    "PvtV2": PYRAMID | {"image_size": SIZE},
    "Segformer": PYRAMID,
}


def same(model, x):
    """The graph's logits are the model's; frozen, since PyTorch takes other kernels where gradients may be wanted."""
    graph = capture(model, x[:1])
    check(graph)
    with torch.no_grad(), evaluating(model), frozen(model):
        return torch.equal(run(graph, x), model(x)) and graph.batch is None


@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - SLOW))
def test_a_foreign_network_is_its_graph(name):
    assert same(FOREIGN[name](), images(3))


@pytest.mark.parametrize("name", FURTHER)
def test_so_is_every_other_of_transformers(name):
    torch.manual_seed(0)
    config = getattr(hf, f"{name}Config")(num_labels=CLASSES, **FURTHER[name])
    assert same(Logits(getattr(hf, f"{name}ForImageClassification")(config)), images(3))


@pytest.mark.parametrize("name", ["test_efficientnet"])
def test_so_is_one_of_timm(name):
    torch.manual_seed(0)
    assert same(timm.create_model(name, num_classes=CLASSES), torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18"])
def test_so_are_our_own(name):
    torch.manual_seed(0)
    model = MODELS[name](classes=CLASSES, channels=3, size=SIZE, width=0.125)
    assert same(Normalised(model, [0.4, 0.5, 0.6], [0.2, 0.2, 0.3]), images(3))
