"""Whether a package is whole, keeps its promises, and is the network it says it was made from: check by check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.errors import HarpError
from harp.export.agreement import agree
from harp.export.deployed import Deployed
from harp.export.pack import TOLERANCE, one_by_one, same_weights, small
from harp.graph import Graph, check
from harp.package import Package, check_file, count, read, weight_names, write
from harp.runs import file_digest

IMAGES = 8


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found there, and whether it was right."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Source:
    """The network a package is said to be made from, in eval mode, its file, and images to try both on."""

    model: nn.Module
    weights: Path
    images: Tensor


def verify(path: Path, source: Source | None = None) -> Iterator[Check]:
    """Every check that can be made of the file, in turn; where it cannot be read, or not run, that is the last one.

    Checksums and structure; non-zeros counted against the manifest's and its budget; the engine's logits against
    PyTorch's. With the `source` also its SHA-256, its weights derived anew and compared bit for bit (rounded, where the
    package's are), and its logits, which rounded weights may change.
    """
    faults = check_file(path)
    yield Check(
        "checksums", not faults, "; ".join(faults) or f"{path.stat().st_size:,} bytes, every section as written"
    )
    if faults:
        return
    package = read(path)
    structure = _tried("structure", lambda: _structure(package.graph))
    yield structure
    if not structure.passed:
        return
    yield _tried("budget", lambda: _budget(package))
    deployed = Deployed(package)
    draws = torch.Generator().manual_seed(0)
    noise = torch.rand(IMAGES, *package.graph.shape, generator=draws, dtype=torch.float32, device="cpu")
    yield _tried("engine", lambda: _logits(deployed.module, deployed, noise, TOLERANCE))
    if source is not None:
        yield _tried("source file", lambda: _named(package, source.weights))
        yield _tried("weights", lambda: _derived(package, source))
        exact = package.manifest.values == "fp32"
        yield _tried("logits", lambda: _logits(source.model, deployed, source.images, TOLERANCE if exact else 1.0))


@precise()
def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except HarpError as error:
        return Check(name, False, str(error))


def _structure(graph: Graph) -> str:
    check(graph)
    slow = "" if graph.batch is None else f"; {one_by_one(graph.batch)}"
    return f"{len(graph.nodes)} operations and {len(graph.tensors)} tensors that fit each other{slow}"


def _budget(package: Package) -> str:
    counts, names = package.manifest.counts, weight_names(package.graph, package.manifest)
    found = count(package.graph, names)[1]
    if counts is None:
        return f"{found:,} weights are not zero; the manifest promises no number"
    said = package.manifest.provenance.get("nonzeros")
    # Rounding may make a small number zero, and nothing else may change how many there are.
    if type(said) is not int or found > said or (found < said and package.manifest.values == "fp32"):
        raise HarpError(f"{found:,} weights are not zero; the manifest says {said}")
    if counts.nominal > counts.budget:
        raise HarpError(f"{counts.nominal:,} weights were kept, {counts.budget:,} promised")
    kept = (
        f"{counts.nominal:,} kept of {counts.weights:,}, {counts.budget:,} promised, {counts.effective:,} with effect"
    )
    return f"{found:,} weights are not zero, as the manifest says; {kept}"


def _logits(model: nn.Module, deployed: Deployed, images: Tensor, tolerance: float) -> str:
    found = agree(model, deployed, [images], tolerance, "the package")
    return f"logits differ by {found.difference:.1e} of the largest on {found.images} images"


def _named(package: Package, path: Path) -> str:
    said = package.manifest.provenance.get("source")
    if not isinstance(said, dict) or "sha256" not in said:
        raise HarpError("the manifest does not say what file the package was made from")
    if said["sha256"] != file_digest(path):
        raise HarpError(f"{path} is not the file that the package was made from")
    return f"{path} is the file that the package was made from"


def _derived(package: Package, source: Source) -> str:
    """The source's weights, packed in the same way and read back, are the package's."""
    made = small(source.model, source.images)
    derived, said = made.graph, package.manifest.weights
    if said is not None and (wrong := set(said) ^ made.weights.keys()):
        raise HarpError(f"the manifest and the source differ in whether {min(wrong)} is a weight")
    with TemporaryDirectory() as folder:
        again = Path(folder, "again.safetensors")
        write(again, derived, replace(package.manifest, more={}), package.manifest.values)
        same_weights(package.graph, read(again).graph)
    return f"all {len(derived.tensors)} tensors are the source's, bit for bit in {package.manifest.values}"
