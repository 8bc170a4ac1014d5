"""A data set: stripes that run down or across, under noise."""

from pathlib import Path

import torch

from harp import HarpError
from harp.data import Dataset, Images


def stripes(path: Path | None) -> Dataset:
    """Grey 8x8 images of stripes, down or across: 256 to train on, 64 to test on."""
    if path is not None:
        raise HarpError(f"data set 'stripes' is computed and takes no data.path, got {path}; leave it out")
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 2
    down = (torch.arange(8) % 2).float().expand(320, 8, 8)
    whole = torch.where(labels[:, None, None] == 0, down, down.transpose(1, 2))
    images = (0.25 + 0.5 * whole + 0.1 * torch.randn(320, 8, 8, generator=noise)).clamp(0, 1)[:, None]
    parts = [Images(images[part], labels[part]) for part in (slice(0, 256), slice(256, 320))]
    return Dataset("stripes", parts[0], parts[1], ("down", "across"), flip=False, pad=0)
