"""A package, read and ready, where there is no PyTorch: arrays in, logits out."""

import os
from os import PathLike

import numpy
from numpy.typing import NDArray

from harp.errors import HarpError
from harp.graph import by_nobody
from harp.package import Manifest, Unpacked, check_images, unpack
from harp.runtime import Alone, Precision
from harp.threats import Threat


def load(path: str | PathLike[str], threads: int | None = None, precision: Precision = "fp32") -> "Network":
    """The network in a package, ready to run on the CPU with so many threads (None: one for each processor it may use).

    Nothing in the file is executed, and PyTorch is not imported, be it there or not. With `precision` "fp16" the engine
    keeps 16 bits between layers, as `harp.load` tells. Raises `HarpError` for a file that is damaged, or no package;
    for a network with a layer that PyTorch would run, which it names; and where the engine is not built for it here.
    """
    return Network(unpack(path, by_nobody), threads, precision)


class Network:
    """A packed network: logits float32 [n, classes] of images [n, c, h, w], as numpy arrays; any thread may call it.

    Images are floating point in the range the manifest names, usually [0, 1], and normalised inside. Calls from several
    threads run side by side, each in memory of its own, which is kept: as much as the most calls at one time took.
    Raises `HarpError` for images of another shape or kind.
    """

    def __init__(self, package: Unpacked, threads: int | None = None, precision: Precision = "fp32"):
        self.manifest: Manifest = package.manifest
        self.seal = package.seal
        self._engine = Alone(package.graph, _processors() if threads is None else threads, precision=precision)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: channels, height, width."""
        return self._engine.graph.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; empty where the package has none."""
        return self.manifest.classes

    @property
    def threat(self) -> Threat | None:
        """What the network was trained to withstand."""
        return self.manifest.threat

    @property
    def engine(self) -> str:
        """What runs it."""
        return f"the sparse engine, {self._engine.build.variant}"

    def __call__(self, x: NDArray[numpy.generic]) -> NDArray[numpy.float32]:
        if not isinstance(x, numpy.ndarray):
            raise HarpError(f"images are a {type(x).__name__}; expected a numpy array")
        check_images(x.shape, str(x.dtype), self.shape, self.manifest)
        return self._engine(x.astype(numpy.float32, order="C", copy=False))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
