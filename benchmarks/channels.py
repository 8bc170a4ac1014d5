"""Half the multiply-accumulates gone by channels, on full-size networks: budgets met, logits equal, counted by others.

    .venv/bin/python benchmarks/channels.py [--out docs/results/channels.json]

For each network, with random weights and statistics: the groups of channels, the settled masks of uniform rates at
half the multiply-accumulates, and the network without them; the largest difference between the logits of the masked
and of the smaller one over 32 images, relative to the largest logit, in eval mode and in train mode (float32 and
float64); and the smaller network's multiply-accumulates as counted by torch's FlopCounterMode.
"""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harp import Budget, ScoresOnly, find_units, remove
from harp.sparsity import ChannelUnits
from networks import shaken

NETWORKS = ("vgg16_bn", "resnet18", "resnet50", "wide_resnet28_4")


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module, images: Tensor, training: bool = False) -> float:
    one, other = (copy.deepcopy(model).to(images.dtype).train(training)(images) for model in (first, second))
    return float((one - other).abs().max() / one.abs().max())


def flops(model: nn.Module, image: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).eval()(image)
    return int(counter.get_total_flops()) // 2


def measure(name: str) -> dict[str, Any]:
    model, image = shaken(name), torch.rand(1, 3, 32, 32)
    began = time.perf_counter()
    units = find_units(model, image, "channels")
    seconds = time.perf_counter() - began
    assert isinstance(units, ChannelUnits)
    cost, budget = units.cost("macs"), Budget(0.5, "macs")
    masks = ScoresOnly(units, budget).settle()
    small = remove(model, units.groups, masks)
    images = torch.rand(32, 3, 32, 32)
    steps = [cost.step(list(masks.counts.values()), pool, 1) for pool in range(len(units.names))]
    return {
        "groups": len(units.names),
        "channels": sum(units.sizes),
        "kept": sum(masks.counts.values()),
        "macs": round(cost(units.sizes)),
        "budget": budget.count(cost(units.sizes)),
        "spent": round(cost(list(masks.counts.values()))),
        "dearest_unit": round(max(steps)),
        "flop_counter": flops(small, image),
        "weights": [sum(p.numel() for p in net.parameters()) for net in (model, small)],
        "difference_eval": distance(model, small, images),
        "difference_train": distance(model, small, images, training=True),
        "difference_train_float64": distance(model, small, images.double(), training=True),
        "seconds_to_find": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {name: measure(name) for name in NETWORKS}
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(
        "| network | groups | channels kept | MACs before | budget | spent | counted | eval | train | train, float64 |"
    )
    print("|" + "---|" * 10)
    for name, row in results.items():
        counts = " | ".join(f"{row[key]:,}" for key in ("macs", "budget", "spent", "flop_counter"))
        far = " | ".join(f"{row[key]:.1e}" for key in row if key.startswith("difference"))
        print(f"| {name} | {row['groups']} | {row['kept']:,} of {row['channels']:,} | {counts} | {far} |")


if __name__ == "__main__":
    main()
