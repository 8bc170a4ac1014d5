"""Labelled images: named sets, parts of them, and batches on the device."""

from harp.data import arrays, cifar, digits, folder, parquet, svhn  # noqa: F401  each registers its sets
from harp.data.base import DATA, Dataset, Images
from harp.data.batches import Batch, Batches, Loader, batches_of
from harp.data.named import load
from harp.data.resident import Resident, check_batches
from harp.data.split import holdout, nested, subset

__all__ = [
    "DATA",
    "Batch",
    "Batches",
    "Dataset",
    "Images",
    "Loader",
    "Resident",
    "batches_of",
    "check_batches",
    "holdout",
    "load",
    "nested",
    "subset",
]
