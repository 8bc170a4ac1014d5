"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from whichever of the two usual forms a folder holds."""

from pathlib import Path

from harp.data.base import DATA, Dataset, required, usual_place
from harp.data.cifar_pickles import CIFAR10, CIFAR100, Layout, find_pickles, read_pickles
from harp.data.parquet import read_parquet
from harp.data.shards import has_shards
from harp.errors import HarpError


@DATA.register("cifar10")
def cifar10(path: Path | None) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour images, 32x32, 10 classes; Parquet files or torchvision's download.

    Without a path it is looked for at `cifar10` in the folder that the environment variable HARP_DATA names,
    or else in `../shared/data`. Mirrored and padded by 4 pixels in training. Raises `HarpError` where it is
    not there, not whole, or has another number of classes.
    """
    return _load("cifar10", path, CIFAR10, 10)


@DATA.register("cifar100")
def cifar100(path: Path | None) -> Dataset:
    """CIFAR-100: 50,000 + 10,000 colour images, 32x32, 100 fine classes; Parquet or torchvision's download.

    Looked for and treated as `cifar10` is, under the name `cifar100`.
    """
    return _load("cifar100", path, CIFAR100, 100)


def _load(name: str, path: Path | None, layout: Layout, classes: int) -> Dataset:
    what = f"a folder with train-*.parquet, or torchvision's {layout.folder}; HARP_DATA or data.path says where"
    root = required(usual_place(name) if path is None else path, name, what)
    if has_shards(root):
        train, test, names, notes = read_parquet(root)
    elif folder := find_pickles(root, layout):
        (train, test, names), notes = read_pickles(folder, layout), ()
    else:
        raise HarpError(f"data set {name!r}: {root} holds neither form; expected {what}")
    if names is None:
        names = tuple(map(str, range(classes)))
    if len(names) != classes:
        raise HarpError(f"data set {name!r}: {root} has {len(names)} classes; expected {classes}")
    return Dataset(name, train, test, names, flip=True, pad=4, notes=notes)
