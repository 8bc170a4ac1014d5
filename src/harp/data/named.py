"""A data set by the name that a recipe gives it."""

from pathlib import Path

from harp.data.base import DATA, Dataset
from harp.data.hub import PREFIX, hub
from harp.data.reading import AS_THEY_ARE, Reading
from harp.errors import HarpError
from harp.registry import accepted


def load(name: str, path: Path | None = None, relabel: bool = False, reading: Reading = AS_THEY_ARE) -> Dataset:
    """The data set registered as `name`, or the hub's where `name` is `hub:owner/name`.

    `path` is the folder or file that holds it (for the hub, the download cache); None is the set's default
    place. With `relabel` labels without class names may be any numbers: they are numbered anew from 0, in order, and
    each class is called by its old label. `reading` says how pictures in files are read. Raises `HarpError` for an
    unknown name, for a `reading` that a set of tensors cannot follow, for labels that do not go from 0 without a gap,
    for class names where numbers were to be changed, and whatever the set itself raises.
    """
    dataset = hub(name, path, reading) if name.startswith(PREFIX) else _made(name, path, reading)
    if relabel and dataset.numbers is None:
        raise HarpError(
            f"data.relabel: the classes of {name} have names, so nothing is to be numbered anew; leave it out"
        )
    if not relabel:
        _check_numbers(dataset)
    return dataset


def _made(name: str, path: Path | None, reading: Reading) -> Dataset:
    make = DATA[name]
    taken = accepted(make, {"reading": reading})
    if not taken and (asked := reading.asked()):
        raise HarpError(
            f"data.{asked}: {name} comes as tensors, not as pictures to read; leave it out, or choose folder, "
            f"parquet, tar or {PREFIX}owner/name"
        )
    return make(path, **taken)


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
