"""A network as a package: captured, folded, shrunk, written, read back, and only then where it was asked for."""

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.drafts import draft
from harp.errors import HarpError
from harp.export.agreement import agree, steady
from harp.export.deployed import Deployed
from harp.export.fold import fold
from harp.export.shrink import shrink
from harp.export.weights import Origins, weight_sizes
from harp.graph import Graph, Interpreter, Sparse, capture
from harp.models import Function, plain
from harp.package import Counts, Manifest, Sizes, count, looks_like_one, read, write
from harp.wrappers import unwrapped

TOLERANCE = 1e-5

Judge = Callable[[Deployed], Mapping[str, Any]]


class SlowWarning(UserWarning):
    """A package is right but slow, because of how its network is written."""


@dataclass(frozen=True)
class Packed:
    """The package that was written: what it says of itself, how large it is, and how far its logits are, relatively.

    `batch` is the only number of images it answers at once, None where any number will do.
    """

    manifest: Manifest
    sizes: Sizes
    images: int
    difference: float
    batch: int | None = None


@dataclass(frozen=True)
class Small:
    """What a package holds: the graph as it was shrunk, all its weights counted, and whether it has collapsed.

    `weights` are those of its tensors that are the network's weights: of each, the names in the network of what it was
    made from.
    """

    graph: Graph
    counts: Counts
    weights: Mapping[str, frozenset[str]]
    collapsed: bool


@precise()
def pack(
    source: nn.Module | Graph,
    images: Tensor,
    path: str | PathLike[str],
    values: str = "fp32",
    manifest: Manifest | None = None,
    *,
    collapsed: bool = False,
    judge: Judge | None = None,
) -> Packed:
    """The network in eval mode, or the graph, as a package at `path`, shrunk to what has an effect on its logits.

    `images` float32 [n, c, h, w] are what the file is tried on once it was read back: its weights must be those that
    were written, bit for bit with `values` "fp32", and its logits then those of `source` to 1e-5 of the largest
    (`harp.export.agreement`). "fp16", "bf16" and "int8" are smaller and cost some accuracy; nothing is refused for
    that, but `difference` tells. `manifest` says what the file should say beside the network. Its counts are the
    promise, of the weights that it names (none: all of `find_weights`); those that have an effect are counted here, and
    the non-zeros of all weights in the file under "nonzeros" in the provenance. Weights that the network computes from
    others in every forward pass are packed as they are in eval mode (`harp.models.plain`). `judge` is given the
    network as read back, and what it returns becomes part of the manifest's evaluation.

    Raises `HarpError` for a network that cannot be captured, for one that is random or changes itself in eval mode, for
    one that answers every image alike unless `collapsed` allows it, and where the file is not the network; then nothing
    is written. Warns (`SlowWarning`) where the file answers one image at a time.
    """
    if isinstance(source, nn.Module):
        source = unwrapped(source)
        steady(source, images)
    made = small(source, images)
    if made.collapsed and not collapsed:
        raise HarpError("the network has collapsed: no path leads from its input to its logits; `collapsed` packs it")
    about = _counted(manifest or Manifest(), made)
    model = source if isinstance(source, nn.Module) else Function(Interpreter(source))
    with draft(Path(path)) as place:
        sizes = write(place, made.graph, about, values)
        deployed = Deployed(read(place))
        difference = _checked(model, made.graph, deployed, images, values)
        if judge is not None:
            about = replace(about, evaluation={**about.evaluation, **judge(deployed)})
            sizes = write(place, made.graph, about, values)
            same_weights(read(place).graph, deployed.graph)
    if made.graph.batch is not None:
        warnings.warn(one_by_one(made.graph.batch), SlowWarning, stacklevel=2)
    return Packed(replace(about, values=values), sizes, len(images), difference, made.graph.batch)


def one_by_one(batch: int) -> str:
    """The sentence on a package that answers `batch` images at once and no other number."""
    images = "one image" if batch == 1 else f"{batch} images"
    return (
        f"the package answers {images} at a time, so that a batch may take ten times as long: what the network "
        "computes depends on their number (x.view(8, -1), a loop over the batch)"
    )


@precise()
def small(source: nn.Module | Graph, images: Tensor) -> Small:
    """What a package of the network holds; raises `HarpError` for a network that cannot be captured."""
    source = source if isinstance(source, Graph) else plain(source)
    graph = source if isinstance(source, Graph) else capture(source, images)
    sizes, found = weight_sizes(source, graph), shrink(fold(graph))
    left = replace(found.graph, tensors={name: _plain_zeros(t) for name, t in found.graph.tensors.items()})
    origins = Origins(graph, found.origin)
    made = {name: origins.of(name) & sizes.keys() for name, t in left.tensors.items() if looks_like_one(t)}
    weights = {name: names for name, names in made.items() if names}
    total, nominal = (sum(size[i] for size in sizes.values()) for i in (0, 1))
    return Small(left, Counts(total, nominal, nominal, count(left, weights)[1]), weights, found.collapsed)


def _counted(about: Manifest, made: Small) -> Manifest:
    counted = about.weights
    wanted = [name for name, made_of in made.weights.items() if counted is None or not made_of.isdisjoint(counted)]
    counts = replace(about.counts or made.counts, effective=count(made.graph, wanted)[1])
    provenance = {**about.provenance, "nonzeros": made.counts.effective}
    return replace(about, counts=counts, weights=tuple(made.weights), provenance=provenance)


def same_weights(found: Graph, expected: Graph) -> None:
    """Nothing where two graphs have the same tensors under the same names, bit for bit; else raises `HarpError`."""
    if found.tensors.keys() != expected.tensors.keys():
        raise HarpError(
            f"the file has other tensors than the network: {sorted(found.tensors.keys() ^ expected.tensors.keys())[0]}"
        )
    for name in expected.tensors:
        here, there = found.tensor(name).contiguous(), expected.tensor(name).contiguous()
        if here.dtype != there.dtype or here.shape != there.shape or not torch.equal(_bits(here), _bits(there)):
            raise HarpError(f"the file's {name} is not the network's")


def _checked(model: nn.Module, small: Graph, deployed: Deployed, images: Tensor, values: str) -> float:
    if values == "fp32":
        same_weights(deployed.graph, small)
        return agree(model, deployed, [images, images[:1]], TOLERANCE, "the package").difference
    return agree(model, deployed, [images], sys.float_info.max, "the package").difference


def _plain_zeros(tensor: Tensor | Sparse) -> Tensor | Sparse:
    """Weights without negative zeros, which a mask or a batch norm's sign leaves behind by the million.

    They are numbers to store like any other, and change no sum but the sign of one that is 0.
    """
    if not looks_like_one(tensor):
        return tensor
    return Sparse.of(tensor.dense() + 0.0) if isinstance(tensor, Sparse) else tensor + 0.0


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8) if tensor.numel() else tensor.view(-1)
