"""A package, read and ready: images in, logits out."""

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import overload

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harp.ambient import pinned
from harp.errors import HarpError
from harp.export.rebuilt import Rebuilt
from harp.graph import Graph
from harp.package import Manifest, Package, check_images, read
from harp.runtime import Precision, compile
from harp.threats import Threat

MARK = b'"harp.package"'  # stands within the first bytes of every package, before anything of variable length


def is_package(path: Path | str) -> bool:
    """Whether the file at `path` says that it is a package; what it really holds is for `load` to find out."""
    try:
        with open(path, "rb") as file:
            return MARK in file.read(512)
    except OSError:
        return False


@pinned()
def load(path: str | PathLike[str], threads: int | None = None, precision: Precision = "fp32") -> "Deployed":
    """The network in a package, ready to run on the CPU with so many threads (None: as many as PyTorch has).

    Nothing in the file is executed, and the class it was trained as is not needed. With `precision` "fp16" the engine
    keeps 16 bits between layers, whatever the values in the file: quicker for photographs where few weights are left,
    with logits off by 1e-3 to 2e-2 of the largest; `harp bench` counts what that changes.

    Raises `HarpError` for a file that is damaged, or no package, and for fp16 where the engine is not built.
    """
    path = Path(path)
    if path.is_file() and not is_package(path) and path.suffix == ".safetensors":
        raise HarpError(
            f"{path} is no package; a state dictionary is loaded by harp.load_model, or packed by harp.pack"
        )
    return Deployed(read(path), threads, precision)


class Deployed(nn.Module):
    """A packed network: logits [n, classes] of images [n, c, h, w], tensors for tensors and arrays for arrays.

    Images are floating point in the range the manifest names, usually [0, 1], and normalised inside; the answer is
    float32. It has neither parameters nor gradients: where an attack asks for them there is `.module`, the same network
    as PyTorch computes it. Raises `HarpError` for images of another shape, kind or device.
    """

    seal: Tensor

    @pinned()
    def __init__(self, package: Package, threads: int | None = None, precision: Precision = "fp32"):
        super().__init__()
        self.graph: Graph = package.graph
        self.manifest: Manifest = package.manifest
        self._engine = compile(package.graph, threads or torch.get_num_threads(), precision=precision)
        # The one thing in its state: it tells the record of an evaluation which network this is.
        self.register_buffer("seal", torch.tensor(list(bytes.fromhex(package.seal)), dtype=torch.uint8))
        self.eval()

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
        """What runs it, and, where that is PyTorch, why."""
        return self._engine.why

    @cached_property
    @pinned()
    def module(self) -> nn.Module:
        """The same network, computed by PyTorch, operator by operator and with gradients: an ordinary module."""
        return Rebuilt(self.graph)

    @overload
    def forward(self, x: Tensor) -> Tensor: ...

    @overload
    def forward(self, x: NDArray[numpy.generic]) -> NDArray[numpy.float32]: ...

    def forward(self, x: Tensor | NDArray[numpy.generic]) -> Tensor | NDArray[numpy.float32]:
        if isinstance(x, numpy.ndarray):
            logits: NDArray[numpy.float32] = self.forward(torch.from_numpy(numpy.ascontiguousarray(x))).numpy()
            return logits
        self._check(x)
        return self._engine(x.to(torch.float32))

    def _check(self, x: Tensor) -> None:
        check_images(tuple(x.shape), str(x.dtype).removeprefix("torch."), self.graph.shape, self.manifest)
        if x.device.type != "cpu":
            raise HarpError(f"images are on {x.device}; a packed network runs on the CPU")
        if x.requires_grad and torch.is_grad_enabled():
            raise HarpError(
                "a packed network has no gradients; attack the network it was made from, its `.module`, or by an "
                "attack that needs none (square, with --doubts 0)"
            )
