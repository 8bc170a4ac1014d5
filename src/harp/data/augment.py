"""Random variations of a batch of images, drawn per image."""

import torch
from torch import Tensor
from torch.nn import functional


def crop(images: Tensor, pad: int, noise: torch.Generator) -> Tensor:
    """Windows of the images' own size, at a random place of each image after `pad` zero pixels on every side.

    `images` is [n, c, h, w] of any dtype; every offset from 0 to 2 * `pad` is equally likely, in both
    directions apart. `noise` is on the CPU, so that every device gets the same windows.
    """
    n, c, h, w = images.shape
    device = images.device
    down, right = torch.randint(0, 2 * pad + 1, (2, n), generator=noise, device="cpu").to(device)
    rows = (down[:, None] + torch.arange(h, device=device))[:, None, :, None]
    columns = (right[:, None] + torch.arange(w, device=device))[:, None, None, :]
    image = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(c, device=device)[None, :, None, None]
    return functional.pad(images, [pad] * 4)[image, channel, rows, columns]


def mirror(images: Tensor, noise: torch.Generator) -> Tensor:
    """The images [n, c, h, w], each mirrored left to right with probability 1/2; `noise` is on the CPU."""
    chosen = (torch.rand(len(images), generator=noise, dtype=torch.float32, device="cpu") < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
