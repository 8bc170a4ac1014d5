"""Images certified one after another into a folder, which a kill may interrupt at any moment."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.certify import Certificate, Smoothed, Smoothing
from harp.data import Labelled
from harp.evaluation import Record, as_network, identity_of, wilson
from harp.pipeline import Workspace
from harp.runs import digest, write_json

MEASURE, RESULTS = "certified", "certified.json"
STEPS = 24  # radii of the curve


def certify_run(
    work: Workspace, model: nn.Module, smoothing: Smoothing, folder: Path, title: str
) -> tuple[list[Certificate], Mapping[str, Any]]:
    """The certificates of the run's test images in their order, and what certified.json in `folder` says of them.

    A finished image is not asked about again. Raises `HarpError` for a folder with the record of another network, other
    images or another `Smoothing`, and for all that `Smoothed` refuses.
    """
    images = work.split.test
    batches = work.in_order(images, 1)
    model = as_network(model, batches)
    pixels, notes = whole_steps(images)
    asked = {**identity_of(model), "smoothing": asdict(smoothing), "images": digest({"x": pixels, "y": images.labels})}
    record, smoothed = Record(folder, asked), Smoothed(model, smoothing)
    found: list[Certificate] = []
    done = sum(record.get(MEASURE, index) is not None for index in range(len(images)))
    with work.display.measures(title, len(images), {MEASURE: done}) as move:
        for index, image in enumerate(pixels):
            tree = record.get(MEASURE, index)
            if tree is None:
                tree = smoothed.certify(image).tree()
                record.put(MEASURE, index, tree)
            move(MEASURE, 1)
            found.append(Certificate(**tree))
    told = {
        "smoothing": asdict(smoothing),
        "network": title,
        "data": {"name": work.split.dataset.name, "images": len(images), "notes": [*work.split.notes, *notes]},
        "environment": work.environment(),
        **summary(found, images.labels, smoothing),
    }
    write_json(folder / RESULTS, told)
    # Imported late: matplotlib takes a second.
    from harp.report.certified import write_certified

    write_certified(folder / "certified", told["certified"], f"{title}, sigma {smoothing.sigma:g}")
    return found, told


def whole_steps(images: Labelled) -> tuple[Tensor, list[str]]:
    """The images as uint8, and a note where they had to be rounded to whole steps of 1/255."""
    pixels = images.images.cpu()
    if pixels.dtype == torch.uint8:
        return pixels, []
    rounded = (pixels * 255).round()
    off = float((rounded / 255 - pixels).flatten(1).norm(dim=1).max()) if len(pixels) else 0.0
    note = f"images were rounded to whole steps of 1/255, by at most {off:.3f} in the 2-norm: radii are around these"
    return rounded.to(torch.uint8), [note] if off > 1e-5 else []


def summary(found: list[Certificate], labels: Tensor, smoothing: Smoothing) -> dict[str, Any]:
    """Shares of all images: right and certified at each radius, abstained from, undecided; each with its interval."""
    right = [one.guess == int(label) for one, label in zip(found, labels, strict=True)]
    largest = max((one.radius for one in found), default=0.0)
    if smoothing.at is not None:
        radii = [smoothing.at]
    else:
        radii = sorted({0.0, 0.25, 0.5, 0.75, 1.0, *(largest * step / STEPS for step in range(STEPS + 1))})
    proved = [one.radius if ok else 0.0 for ok, one in zip(right, found, strict=True)]
    curve = [{"radius": at, **share([radius > 0 and radius >= at for radius in proved])} for at in radii]
    return {
        "certified": curve,
        "abstained": share([one.radius == 0 for one in found]),
        "undecided": share([not one.decided for one in found]),
        "answers": sum(one.n for one in found),
    }


def share(flags: list[bool]) -> dict[str, float | int]:
    """The share of those that are true, with n and its Wilson 95 % interval."""
    low, high = wilson(sum(flags), len(flags))
    return {"share": sum(flags) / len(flags), "low": low, "high": high, "n": len(flags)}
