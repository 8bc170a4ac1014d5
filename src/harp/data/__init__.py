"""Labelled images: named sets, parts of them, and batches on the device."""

from harp.data import arrays, cifar, digits, folder, parquet, svhn, tar  # noqa: F401  each registers its sets
from harp.data.augment import Varied
from harp.data.base import DATA, Dataset, Images, Labelled
from harp.data.batches import Batch, Batches, Counted, Loader, batches_of
from harp.data.epochs import Epochs, check_batches
from harp.data.feeding import feed
from harp.data.hub import PREFIX as HUB
from harp.data.named import load
from harp.data.reading import Reading
from harp.data.resident import Resident
from harp.data.split import holdout, nested, subset
from harp.data.stored import Stored
from harp.data.streamed import Streamed

__all__ = [
    "DATA",
    "HUB",
    "Batch",
    "Batches",
    "Counted",
    "Dataset",
    "Epochs",
    "Images",
    "Labelled",
    "Loader",
    "Reading",
    "Resident",
    "Stored",
    "Streamed",
    "Varied",
    "batches_of",
    "check_batches",
    "feed",
    "holdout",
    "load",
    "nested",
    "subset",
]
