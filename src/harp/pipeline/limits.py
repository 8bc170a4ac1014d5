"""Sizes that a recipe asks for, compared with images and memory before anything is made of them."""

import os
from collections.abc import Sequence

import torch

from harp import models
from harp.config import FinetuneSettings, Planned, Recipe, settings_of
from harp.data import check_batches
from harp.errors import HarpError
from harp.own import is_own
from harp.pipeline.images import Split, varied


def check_sizes(recipe: Recipe, split: Split, stages: Sequence[Planned]) -> None:
    """Raises `HarpError` for what a training stage of these could not draw from the images, or not find."""
    if stages and len(set(split.train.labels.tolist())) == 1:
        only = split.dataset.classes[int(split.train.labels[0])]
        raise HarpError(
            f"all {len(split.train):,} training images are of the class {only}; expected at least two classes"
        )
    for stage in stages:
        settings = settings_of(recipe, stage)
        masks = settings.masks if isinstance(settings, FinetuneSettings) else None
        if masks is not None and not masks.is_file():
            raise HarpError(f"{stage.name}.masks: no file {masks}")
        try:
            check_batches(split.train, settings.batch_size, **varied(recipe.data, split.dataset))
        except HarpError as error:
            raise HarpError(f"{stage.name}: {error}") from None


def check_width(name: str, width: float, *, classes: int, channels: int, size: models.Size) -> None:
    """Raises `HarpError` where a registered network is wider than this machine's memory.

    Counted on shapes alone: nothing is allocated. Weights that just fit may still not train.
    """
    if is_own(name) or name not in models.MODELS or width <= 1:
        return
    try:
        with torch.device("meta"):
            model = models.MODELS[name](classes=classes, channels=channels, size=size, width=width)
        asked = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    except RuntimeError:  # more than 2^63 bytes
        asked = 1 << 63
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if asked > there:
        raise HarpError(
            f"model.width: {name} with width {width:g} would have {asked / 1e9:,.0f} GB of weights, this machine has "
            f"{there / 1e9:,.0f} GB of memory; choose a smaller width"
        )
