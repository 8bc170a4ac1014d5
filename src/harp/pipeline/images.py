"""The images of a run: those to train on, those held out of them, and the test images, which select nothing."""

from dataclasses import dataclass

import torch

from harp import data
from harp.config import DataSettings, Recipe
from harp.errors import HarpError


@dataclass(frozen=True)
class Split:
    """The images of a run by their use, and what a reader of results should know of the choice."""

    dataset: data.Dataset
    train: data.Labelled
    validation: data.Labelled | None
    test: data.Labelled
    notes: tuple[str, ...] = ()


def padding(settings: DataSettings, dataset: data.Dataset) -> int:
    """Zero pixels on each side of training images before they are cropped; none where windows of them are."""
    if settings.crop is not None:
        return 0
    return dataset.pad if settings.pad is None else settings.pad


def varied(settings: DataSettings, dataset: data.Dataset) -> data.Varied:
    """How training images are varied."""
    return {
        "flip": dataset.flip if settings.flip is None else settings.flip,
        "pad": padding(settings, dataset),
        "crop": settings.crop,
        "jitter": settings.jitter,
    }


def reading(settings: DataSettings) -> data.Reading:
    """How pictures in files are read."""
    return data.Reading(settings.size, settings.centre, settings.stream, settings.workers)


def split_images(recipe: Recipe) -> Split:
    """The recipe's data set, divided by the data's seed or the recipe's; the test images are the set's own.

    Raises `HarpError` for a set of one class: whatever a network says of its images is right, under any attack.
    """
    settings = recipe.data
    seed = recipe.seed if settings.seed is None else settings.seed
    dataset = data.load(settings.name, settings.path, settings.relabel, reading(settings))
    if len(dataset.classes) < 2:
        raise HarpError(
            f"{dataset.name} has one class, {', '.join(dataset.classes)}: there is nothing to learn and nothing to "
            "attack; expected at least two"
        )
    train, validation = dataset.train, None
    if settings.train is not None:
        train = train.take(data.subset(train.labels, settings.train, seed))
    if settings.holdout:
        rest, held = data.holdout(train.labels, settings.holdout, seed)
        train, validation = train.take(rest), train.take(held)
    test, notes = drawn(dataset.test, recipe.evaluation.images)
    return Split(dataset, train, validation, test, (*dataset.notes, *notes))


def drawn(test: data.Labelled, count: int | None) -> tuple[data.Labelled, tuple[str, ...]]:
    """`count` of the test images, and a note that says so; all of them where it is None or there are no more.

    The same whatever the run's seed, so that runs of several seeds are compared on the same images.
    """
    if count is None or count >= len(test):
        return test, ()
    note = f"{count:,} of {len(test):,} test images were attacked, drawn at random from each class in proportion"
    return test.take(places(test, count)), (note,)


def places(test: data.Labelled, count: int | None) -> torch.Tensor:
    """Where the images that `drawn` gives lie among `test`, int64, ascending."""
    return torch.arange(len(test)) if count is None else data.nested(test.labels, count, 0)


def leading(test: data.Labelled, count: int) -> data.Labelled:
    """The first `count` test images, as leaderboards take them.

    Of a set sorted by class these would leave classes out: then so many of each class in proportion.
    """
    if count < len(test) and bool((test.labels.diff() >= 0).all()):
        return test.take(data.nested(test.labels, count, 0))
    return test.take(torch.arange(count))
