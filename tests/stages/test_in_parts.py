"""Every method on batches that are worked through in parts: where no layer looks across images, it trains the same."""

import pytest
import torch
from safetensors.torch import load_file

from harp.errors import HarpError
from harp.pruners import METHODS
from harp.stages import run_stages
from tests.stages.test_runner import CHANNELS, OF_CHANNELS, OF_WEIGHTS
from tests.tiny import workspace

NET = """
from torch import nn

def make(classes, channels, size):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes),
    )
"""
QUICK: list[tuple[str, dict[str, object]]] = [("harp", {}), ("flyingbird", {})]
SLOW = [
    *((method, {}) for method in METHODS if method not in OF_CHANNELS),
    *((method, CHANNELS) for method in METHODS if method not in (*OF_WEIGHTS, "anp-vs")),
]


def trained(folder, parts, method, more):
    """The pruned network's weights after three stages."""
    (folder / "net.py").write_text(NET)
    plain = {"objective": "natural", "batch_size": 32, "epochs": 2, "lr": 0.05}
    stages = {
        "pretrain": plain,
        "prune": {**plain, "method": method, "accumulate": parts, **more},
        "finetune": {**plain, "accumulate": parts},
    }
    model = {"name": f"{folder / 'net.py'}:make", "width": 1.0}
    run_stages(workspace(folder / str(parts), model=model, **stages), ["pretrain", "prune", "finetune"])
    return load_file(folder / str(parts) / "3-finetune" / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "more"), [*QUICK, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW if row not in QUICK)]
)
def test_a_method_trains_in_parts_as_on_the_whole(tmp_path, method, more):
    whole, parts = (trained(tmp_path, count, method, more) for count in (1, 2))
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=1e-3, atol=1e-4)


def test_a_method_that_needs_whole_batches_is_refused_before_anything_trains(tmp_path):
    with pytest.raises(HarpError, match="which accumulate 2 cuts up; expected 1"):
        trained(tmp_path, 2, "anp-vs", CHANNELS)
    assert not (tmp_path / "2" / "1-pretrain" / "done.json").exists()
