"""The packed network as one file (docs/format.md): written, read without trust, measured, checked."""

from harp.package.counting import count, looks_like_one, weight_names
from harp.package.files import Package, check_file, read, sizes, write
from harp.package.manifest import Counts, Manifest
from harp.package.precision import PRECISIONS
from harp.package.sizes import Sizes, TensorSize

__all__ = [
    "PRECISIONS",
    "Counts",
    "Manifest",
    "Package",
    "Sizes",
    "TensorSize",
    "check_file",
    "count",
    "looks_like_one",
    "read",
    "sizes",
    "weight_names",
    "write",
]
