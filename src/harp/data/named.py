"""A data set by the name that a recipe gives it."""

from pathlib import Path

from harp.data.base import DATA, Dataset
from harp.data.hub import PREFIX, hub
from harp.errors import HarpError


def load(name: str, path: Path | None = None, relabel: bool = False) -> Dataset:
    """The data set registered as `name`, or the hub's where `name` is `hub:owner/name`.

    `path` is the folder or file that holds it (for the hub, the download cache); None is the set's default
    place. With `relabel` labels without class names may be any numbers: they are numbered anew from 0, in order, and
    each class is called by its old label. Raises `HarpError` for an unknown name, for labels that do not go from 0
    without a gap, for class names where numbers were to be changed, and whatever the set itself raises.
    """
    dataset = hub(name, path) if name.startswith(PREFIX) else DATA[name](path)
    if relabel and dataset.numbers is None:
        raise HarpError(
            f"data.relabel: the classes of {name} have names, so nothing is to be numbered anew; leave it out"
        )
    if not relabel:
        _check_numbers(dataset)
    return dataset


def _check_numbers(dataset: Dataset) -> None:
    numbers = dataset.numbers or ()
    if numbers == tuple(range(len(numbers))):
        return
    most = numbers[-1]
    counted = "count from 1" if numbers[0] == 1 and len(numbers) == most else f"are {len(numbers)} numbers up to {most}"
    missing = next(number for number, label in enumerate(numbers) if number != label)
    raise HarpError(
        f"{dataset.name}: labels {counted} and no image has {missing}, so {most + 1:,} classes would be made of "
        f"{len(numbers):,}; count from 0, give the classes names, or set data.relabel to true, which numbers them anew"
    )
