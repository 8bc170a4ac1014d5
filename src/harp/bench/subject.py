"""The network that is timed, as every runner finds it: a module, an ONNX file, a package."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.bench.quantised import CALIBRATION, quantise
from harp.config import Recipe, make_recipe, plan
from harp.data import feed, nested
from harp.export import Deployed, is_package, pack, to_onnx
from harp.networks.named import Network, dense_of, loaded
from harp.networks.packing import origin
from harp.package import read
from harp.pipeline.workspace import Workspace
from harp.runs import save_tree

CHECKED = 8  # images on which files are compared with the network when they are written


@dataclass(frozen=True)
class Subject:
    """A network by its recipe's settings and weights, and a folder for the files that are made of it.

    `record` is that of its evaluation, where it has one. These are plain values, so that another process can build the
    same network and find the same files.
    """

    settings: Mapping[str, Any]
    weights: Path | None
    folder: Path
    record: Path | None = None

    @cached_property
    def work(self) -> Workspace:
        return Workspace(make_recipe(self.settings))

    @cached_property
    def model(self) -> nn.Module:
        """The network in eval mode as PyTorch computes it, its weights laid out as its convolutions like them best."""
        model = loaded(self.work, self.weights)
        module = model.module if isinstance(model, Deployed) else model
        laid: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return laid

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of an image: channels, height, width."""
        if self.weights is not None and is_package(self.weights):
            return read(self.weights).graph.shape
        dataset = self.work.split.dataset
        return (dataset.channels, *dataset.size)

    def images(self, batch: int) -> Tensor:
        """Uniform noise, float32 [batch, c, h, w] in [0, 1], always the same."""
        return torch.rand(batch, *self.shape, generator=torch.Generator().manual_seed(0))

    @property
    def state(self) -> Path:
        """The file with all weights, zeros and all, as plain safetensors."""
        path = self.folder / "model.safetensors"
        if not path.exists():
            save_tree(path, self._tensors())
        return path

    def _tensors(self) -> dict[str, Any]:
        if self.weights is not None and is_package(self.weights):
            graph = read(self.weights).graph
            return {name: graph.tensor(name) for name in graph.tensors}
        return dict(self.model.state_dict())

    @property
    def onnx(self) -> Path:
        """The ONNX file."""
        path = self.folder / "model.onnx"
        if not path.exists():
            to_onnx(self.model, self.images(CHECKED), path)
        return path

    @property
    def onnx_int8(self) -> Path:
        """The ONNX file in eight bits."""
        path = self.folder / "model-int8.onnx"
        if not path.exists():
            quantise(self.onnx, self.calibration, path)
        return path

    @cached_property
    def calibration(self) -> Tensor:
        """Training images [n, c, h, w], as they are, from each class in proportion."""
        train = self.work.split.train
        chosen = train.take(nested(train.labels, min(CALIBRATION, len(train)), 0))
        images, _ = next(iter(feed(chosen, len(chosen), 0, device="cpu", shuffle=False).once()))
        return images

    @property
    def package(self) -> Path:
        """The package, which is the network's own file where that is one."""
        path = self.folder / "package.safetensors"
        if self.weights is not None and is_package(self.weights):
            return self.weights
        if not path.exists():
            pack(self.model, self.images(CHECKED), path, collapsed=True)
        return path


def subjects(network: Network, recipe: Recipe, folder: Path) -> tuple[Subject, Subject | None]:
    """The network with the recipe's settings, and the one from which channels were removed, where it is known."""
    settings, before = recipe.model_dump(mode="json"), dense_of(network)
    (folder / "before").mkdir()
    whole = Subject(settings, before.weights, folder / "before") if before else None
    return Subject(settings, network.weights, folder, _record(network, recipe)), whole


def _record(network: Network, recipe: Recipe) -> Path | None:
    if network.told_by is None or network.weights is None:
        return None
    return origin(network.told_by, network.weights, plan(recipe.stages)).record
