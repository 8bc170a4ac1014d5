"""The images of a run: those to train on, those held out of them, and the test images, which select nothing."""

from dataclasses import dataclass

import torch

from harp import data
from harp.config import DataSettings, Recipe


@dataclass(frozen=True)
class Split:
    """The images of a run by their use."""

    dataset: data.Dataset
    train: data.Images
    validation: data.Images | None
    test: data.Images


def padding(settings: DataSettings, dataset: data.Dataset) -> int:
    """Zero pixels on each side of training images before they are cropped."""
    return dataset.pad if settings.pad is None else settings.pad


def split_images(recipe: Recipe) -> Split:
    """The recipe's data set, divided by the recipe's seed; the test images are the set's own."""
    settings, seed = recipe.data, recipe.seed
    dataset = data.load(settings.name, settings.path)
    train, validation = dataset.train, None
    if settings.train is not None:
        train = train.take(data.subset(train.labels, settings.train, seed))
    if settings.holdout:
        rest, held = data.holdout(train.labels, settings.holdout, seed)
        train, validation = train.take(rest), train.take(held)
    test, limit = dataset.test, recipe.evaluation.images
    return Split(dataset, train, validation, test.take(torch.arange(min(limit, len(test)))) if limit else test)
