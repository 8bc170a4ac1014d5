"""Networks nobody here wrote: nine architectures of `transformers`, tiny, from configurations, without weights.

`FOREIGN[name]()` takes images [B, 3, 32, 32] to logits [B, 10] in milliseconds and gives the same weights every time.
"""

from collections.abc import Callable
from functools import cache

import torch
import transformers as hf
from torch import Tensor, nn

from harp.graph import Graph, capture
from harp.models import Logits
from harp.modes import evaluating
from harp.sparsity import ALLOCATIONS, Budget, Weights, allot, find_sites, top_mask

CLASSES = 10
SIZE = 32

# Strides, patches and windows are those that leave a map of several pixels of a 32 pixel image. LayerScale starts at 1:
# at the usual 1e-6 (ConvNeXt) or 1e-5 (PoolFormer) a fresh block is the identity, and whether it is pruned right
# would not show.
_CONFIGS: dict[str, tuple[str, str, dict[str, object]]] = {
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"patch_size": 2, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_scale_init_value": 1.0},
    ),
    "levit": (
        "LevitForImageClassificationWithTeacher",
        "LevitConfig",
        {
            "image_size": SIZE,
            "hidden_sizes": [16, 32, 48],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "down_ops": [["Subsample", 8, 2, 2, 2, 1], ["Subsample", 8, 4, 2, 2, 2]],
        },
    ),
    "mobilenet_v2": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {
            "image_size": SIZE,
            "depth_multiplier": 0.1,
            "min_depth": 4,
            "depth_divisible_by": 4,
            "finegrained_output": True,
        },
    ),
    "mobilevit": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {
            "image_size": SIZE,
            "hidden_sizes": [16, 20, 24],
            "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 48],
            "num_attention_heads": 2,
            "expand_ratio": 2.0,
            "output_stride": 8,
        },
    ),
    "poolformer": (
        "PoolFormerForImageClassification",
        "PoolFormerConfig",
        {
            "hidden_sizes": [16, 24, 32, 48],
            "depths": [1, 1, 1, 1],
            "mlp_ratio": 4.0,
            "patch_sizes": [3, 3, 3, 3],
            "strides": [2, 2, 2, 2],
            "padding": [1, 1, 1, 1],
            "layer_scale_init_value": 1.0,
        },
    ),
    "regnet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "groups_width": 8},
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 1, 1]},
    ),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": SIZE,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
            "mlp_ratio": 2.0,
        },
    ),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {
            "image_size": SIZE,
            "patch_size": 8,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    ),
}

# Six more that only the graph and the engine are tried on, by the name that `transformers` gives them.
_VIT: dict[str, object] = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_PYRAMID = {
    "hidden_sizes": [8, 16],
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "num_attention_heads": [1, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
}
_FURTHER: dict[str, dict[str, object]] = {
    "Beit": _VIT,
    "Bit": {"embedding_size": 8, "hidden_sizes": [32, 32], "depths": [1, 1], "num_groups": 4},
    "Dinov2": _VIT | {"mlp_ratio": 2},
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
    "PvtV2": _PYRAMID | {"image_size": SIZE},
    "Segformer": _PYRAMID,
}


def _start(network: nn.Module) -> None:
    # transformers starts most layers at a deviation of 0.02, which is meant for wide ones, and MobileViT even the
    # scales of its batch norms. In these narrow ones the signal dies: over images the logits of MobileNetV2 vary by
    # 1e-28, LeViT's by 1e-10, MobileViT's not at all.
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()


def bare(name: str) -> "hf.PreTrainedModel":
    """The network as `transformers` makes it, in training mode: its output is an object with `.logits`."""
    model, config, options = _CONFIGS[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network: nn.Module = getattr(hf, model)(getattr(hf, config)(num_labels=CLASSES, **options))
        _start(network)
    network.train()
    return network


def _builder(name: str) -> Callable[[], nn.Module]:
    return lambda: Logits(bare(name))


FOREIGN = {name: _builder(name) for name in _CONFIGS}


def _further(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        network: nn.Module = getattr(hf, f"{name}ForImageClassification")(
            getattr(hf, f"{name}Config")(num_labels=CLASSES, **_FURTHER[name])
        )
        _start(network)
        return Logits(network)

    return build


FURTHER = {name: _further(name) for name in _FURTHER}


@cache
def pruned(name: str) -> tuple[nn.Module, Graph]:
    """A network of either kind and its graph, made once: a tenth of the weights left, shared out over layers by ERK.

    In eval mode and frozen, since PyTorch takes other kernels where gradients may be wanted.
    """
    model = {**FOREIGN, **FURTHER}[name]().eval()
    units = Weights(find_sites(model))
    model.requires_grad_(False)
    counts = allot(units, Budget(0.1, floor=0.0), ALLOCATIONS["erk"](units))
    for site in units.sites:
        site.param.masked_fill_(~top_mask(site.param.abs(), counts[site.name]), 0)
    return model, capture(model, images(1))


def images(count: int = 4) -> Tensor:
    """Uniform noise [count, 3, 32, 32], always the same."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def varies(model: nn.Module) -> bool:
    """Whether every logit of `model` in eval mode depends on the image: a deviation over eight of above 0.01."""
    with evaluating(model), torch.no_grad():
        return bool((model(images(8)).std(0) > 0.01).all())
