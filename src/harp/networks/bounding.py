"""Test images of which bounds by intervals prove the right answer, batch by batch into a folder that may be killed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.certify import Bounds
from harp.errors import HarpError
from harp.evaluation import Record, as_network, identity_of
from harp.evaluation.passes import fingerprints
from harp.export import Deployed
from harp.graph import capture
from harp.models import logits_of, plain
from harp.networks.certifying import share
from harp.pipeline import Workspace
from harp.runs import digest, write_json
from harp.threats import exact

MEASURE, RESULTS = "bounded", "bounded.json"


def bound_run(
    work: Workspace, model: nn.Module, folder: Path, title: str, batch: int = 100
) -> tuple[Tensor, Mapping[str, Any]]:
    """How far each test image's class is proved to stay ahead within the run's threat, and what bounded.json says.

    float64 [n], in the images' order; above 0 the network is proved to answer rightly in all of the ball. A finished
    batch is not computed again. Raises `HarpError` for a folder with the record of another network, other images or
    another threat, for all that `Bounds` refuses, and where the network answers other than is proved.
    """
    batches = work.in_order(work.split.test, batch)
    model = as_network(model, batches)
    x, _ = next(batches.once())
    graph = model.graph if isinstance(model, Deployed) else capture(plain(model), x)
    bounds, threat = Bounds(graph), work.threat
    prints = [fingerprints(x, y) for x, y in batches.once()]
    asked = {
        **identity_of(model),
        "threat": repr(threat),
        "images": digest({"images": torch.cat(prints)}),
        "batch": batch,
    }
    record, found = Record(folder, asked), []
    done = sum(len(part) for i, part in enumerate(prints) if record.get(MEASURE, i) is not None)
    with work.display.measures(title, len(batches), {MEASURE: done}) as move:
        for index, (x, y) in enumerate(batches.once()):
            tree = record.get(MEASURE, index)
            if tree is None:
                tree = {"margin": bounds.margins(x, y, threat), "right": _right(model, x, y)}
                record.put(MEASURE, index, tree)
            move(MEASURE, len(x))
            found.append(tree)
    margins, right = (torch.cat([tree[name] for tree in found]) for name in ("margin", "right"))
    check(margins, right)
    told = {
        "threat": {"norm": "inf", "eps": exact(threat.eps), "low": threat.low, "high": threat.high},
        "network": title,
        "data": {"name": work.split.dataset.name, "images": len(margins), "notes": list(work.split.notes)},
        "environment": work.environment(),
        "right": share(right.tolist()),
        "proved": share((margins > 0).tolist()),
    }
    write_json(folder / RESULTS, told)
    return margins, told


def check(margins: Tensor, right: Tensor) -> None:
    """Raises `HarpError` where an image is answered wrongly of which the opposite is proved."""
    wrong = ((margins > 0) & ~right).nonzero().flatten().tolist()
    if wrong:
        raise HarpError(
            f"the network answers image {wrong[0]} wrongly, though its bounds prove the right answer; it computes less "
            "exactly than float32 does, so nothing is proved of it"
        )


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (logits_of(model(x)).argmax(1) == y).cpu()
