"""A network of the pipeline as a package: what the file says of it, and what the file's own verdicts are."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harp.config import EVALUATION, EXPORT, Planned, identity, pruning
from harp.copies import copied
from harp.data import feed
from harp.errors import HarpError
from harp.evaluation import RESULT, rejudge, summary
from harp.export import Deployed, Questions, SlowWarning, load, one_by_one, pack, to_onnx, to_vnnlib
from harp.package import Counts, Manifest
from harp.pipeline.workspace import Workspace
from harp.report.reading import read_allocation, read_export
from harp.runs import file_digest
from harp.seals import read_sealed
from harp.version import VERSION
from harp.wrappers import unwrapped

CHECKED = 64  # test images on which the package's logits are compared with the network's
TOLD = ("n", "robust", "examined", "measures", "attacks", "doubts", "seed")


@dataclass(frozen=True)
class Origin:
    """Where a network comes from: its file, the promise of how many of which weights, the record of its evaluation.

    `threat` says that the recipe's threat is what it is meant to withstand, and no mere default.
    """

    weights: Path | None = None
    counts: Counts | None = None
    counted: tuple[str, ...] | None = None
    record: Path | None = None
    threat: bool = True


def origin(run: Path, weights: Path, stages: Sequence[Planned]) -> Origin:
    """What the folder of a run of these stages knows of the file `weights` in it."""
    last, cuts = stages[-1], [stage for stage in stages if stage.kind == "prune"]
    final = weights.parent.name in (EXPORT, last.folder)
    record, baked = run / EVALUATION / last.network, run / EXPORT / "manifest.json"
    counts = counted = None
    if final and baked.exists():
        sizes, shared = read_export(baked), run / cuts[-1].folder / "allocation.json" if cuts else None
        budget = read_allocation(shared) if shared and shared.exists() else None
        promised = budget.budget if budget and budget.of == "parameters" else sizes.kept
        counts, counted = Counts(sizes.total, promised, sizes.kept, 0), tuple(sizes.sites)
    return Origin(weights, counts, counted, record if final and (record / RESULT).exists() else None)


def pack_network(
    work: Workspace, model: nn.Module, path: Path, found: Origin, collapsed: bool = False
) -> dict[str, Any]:
    """What was packed, as JSON values: file, bytes, precision, counts, and how far its logits are from the network's.

    Where there is a record of an evaluation, "judged" says how many of its images, clean and adversarial, the package
    was asked about, on how many of them it judges otherwise, and its accuracies by these verdicts; a package with
    rounded weights so tells what that costs. Raises `HarpError` for all that `pack` refuses.
    """
    test, settings = work.split.test, work.recipe
    images = feed(test, min(settings.evaluation.batch_size, len(test)), 0, device="cpu", shuffle=False)
    about = Manifest(
        name=settings.model.name.rpartition("/")[2],  # of a file of somebody's own, not where it lies
        classes=work.split.dataset.classes,
        threat=work.threat if found.threat else None,
        counts=found.counts,
        weights=found.counted,
        evaluation=_told(found.record),
        provenance=_provenance(work, found.weights),
    )

    def judge(deployed: Deployed) -> Mapping[str, Any]:
        if found.record is None:
            return {}
        verdicts = rejudge(deployed, images, found.record)
        counted = {"compared": verdicts.compared, "different": verdicts.different}
        return {"judged": {**counted, "measures": summary(verdicts.flags)}}

    x, _ = next(images.once(min(CHECKED, len(test))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowWarning)  # `sentences` tells
        copy, values = copied(unwrapped(model)).cpu(), settings.export.values
        made = pack(copy, x, path, values, about, collapsed=collapsed, judge=judge)
    return {
        "file": path.name,
        "bytes": made.sizes.bytes,
        "values": made.manifest.values,
        "counts": asdict(made.manifest.counts) if made.manifest.counts else None,
        "checked_images": made.images,
        "difference": made.difference,
        "batch": made.batch,
        "judged": made.manifest.evaluation.get("judged"),
    }


def onnx_file(work: Workspace, model: nn.Module, path: Path) -> dict[str, Any]:
    """What `to_onnx` says of the file it made of the network, tried on the first test images."""
    images, _ = next(work.in_order(work.split.test, CHECKED).once())
    return to_onnx(model, images, path)


def vnnlib_files(work: Workspace, package: Path, count: int, folder: Path) -> Questions:
    """What `to_vnnlib` says of the first `count` test images and the network in the package, which is the one to ship.

    Raises `HarpError` where there are fewer, and for all that `to_vnnlib` refuses.
    """
    images = work.split.test
    if count > len(images):
        raise HarpError(
            f"properties of {count:,} images were asked for; expected at most {len(images):,}, all there are"
        )
    x, y = next(work.in_order(images, count).once())
    return to_vnnlib(load(package).graph, x.cpu(), y.cpu(), work.threat, folder)


def sentences(path: Path, made: Mapping[str, Any]) -> Iterator[str]:
    """What was packed, in words."""
    counts, judged = made["counts"], made["judged"]
    effect = f"{counts['effective']:,} of {counts['nominal']:,} kept weights have an effect"
    yield f"package: {path}, {made['bytes']:,} bytes in {made['values']}; {effect}"
    if made["batch"] is not None:
        yield one_by_one(made["batch"])
    if judged:
        worst, clean = (100 * judged["measures"][name]["accuracy"] for name in ("worst", "clean"))
        told = f"{judged['different']:,} of {judged['compared']:,} verdicts differ from the record's"
        yield f"judged by the package: {told}; right clean {clean:.1f} %, under every attack on record {worst:.1f} %"


def _told(record: Path | None) -> dict[str, Any]:
    """The result on record, without what only its folder is about."""
    if record is None:
        return {}
    result = read_sealed(record / RESULT)
    return {name: result[name] for name in TOLD if name in result}


def _provenance(work: Workspace, weights: Path | None) -> dict[str, Any]:
    recipe, dataset = work.recipe, work.split.dataset
    prune = next((pruning(recipe, stage) for stage in reversed(work.stages) if stage.kind == "prune"), recipe.prune)
    return {
        "recipe": {"name": recipe.name, "identity": identity(recipe), "seed": recipe.seed},
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "prune": {name: getattr(prune, name) for name in ("method", "granularity", "keep", "measure")},
        "source": {"file": weights.name, "sha256": file_digest(weights)} if weights else None,
        "versions": {"harp-pruning": VERSION, "torch": torch.__version__},
    }
