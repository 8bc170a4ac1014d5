"""CIFAR-10 and CIFAR-100 as torchvision downloads them, read without trusting the pickles they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harp.data.base import Images, located
from harp.data.safe_pickle import read_pickle
from harp.errors import HarpError, choices


@dataclass(frozen=True)
class Layout:
    """The file names and the keys of one of the two sets."""

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels="labels",
    names="label_names",
)
CIFAR100 = Layout(
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
)


def find_pickles(root: Path, layout: Layout) -> Path | None:
    """The folder that holds the set: `root`, or the folder of torchvision's name in it; None for neither."""
    places = [folder for folder in (root, root / layout.folder) if (folder / layout.meta).is_file()]
    return places[0] if places else None


def read_pickles(folder: Path, layout: Layout) -> tuple[Images, Images, tuple[str, ...]]:
    """Training part, test part and class names; images are uint8 [n, 3, 32, 32].

    Raises `HarpError` for a file that is missing, damaged, asks for any object but a byte array, or lacks a
    key.
    """
    names = _entry(read_pickle(folder / layout.meta), layout.names, folder / layout.meta)
    parts = [_read(folder / file, layout) for file in layout.train]
    train = Images(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    return train, _read(folder / layout.test, layout), tuple(str(name) for name in names)


def _read(file: Path, layout: Layout) -> Images:
    batch = read_pickle(file)
    pixels, labels = _entry(batch, "data", file), _entry(batch, layout.labels, file)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (len(labels), 3 * 32 * 32):
        shape = getattr(pixels, "shape", type(pixels).__name__)
        raise HarpError(
            f"{file} holds images of shape {shape}; expected ({len(labels)}, 3072) bytes, one row per label"
        )
    if not all(type(label) is int for label in labels):
        raise HarpError(f"{file} holds labels that are not whole numbers; expected a list of int")
    with located(str(file)):
        images = torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy())
        return Images(images, torch.tensor(labels, dtype=torch.int64))


def _entry(batch: dict[str, Any], key: str, file: Path) -> Any:
    if key not in batch:
        raise HarpError(f"{file} has no entry {key!r}; {choices(key, map(str, batch))}")
    return batch[key]
