"""Labelled images: named sets, parts of them, and batches on the device."""

from harp.data import arrays, cifar, digits, folder, parquet  # noqa: F401  each registers its sets
from harp.data.base import DATA, Dataset, Images
from harp.data.batches import Batches, Loader
from harp.data.named import load
from harp.data.resident import Resident
from harp.data.split import holdout, subset

__all__ = ["DATA", "Batches", "Dataset", "Images", "Loader", "Resident", "holdout", "load", "subset"]
