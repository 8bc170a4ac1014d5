"""Batches of a set, wherever its images lie."""

from typing import Unpack

import torch

from harp.data.augment import Varied
from harp.data.base import Labelled
from harp.data.epochs import WHOLE, Epochs, Part
from harp.data.resident import Resident
from harp.data.stored import Stored
from harp.data.streamed import Streamed


def feed(
    images: Labelled,
    batch_size: int,
    seed: int,
    *,
    device: torch.device | str,
    shuffle: bool = True,
    part: Part = WHOLE,
    **varied: Unpack[Varied],
) -> Epochs:
    """The batches of `images` on `device`: `Streamed` of what stays in its files, `Resident` of all else.

    Raises `HarpError` as `Epochs` does.
    """
    kind = Streamed if isinstance(images, Stored) else Resident
    return kind(images, batch_size, seed, device=device, shuffle=shuffle, part=part, **varied)
