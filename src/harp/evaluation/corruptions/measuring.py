"""How often a network is right under corruptions: measured, recorded, and told."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise, usable
from harp.errors import HarpError
from harp.evaluation.answers import Asker
from harp.evaluation.code import code_of
from harp.evaluation.corruptions.base import CORRUPTIONS, LEVELS, corrupted
from harp.evaluation.evaluate import Batches, as_network, once
from harp.evaluation.expected import draws_of, single, votes
from harp.evaluation.identity import identity_of
from harp.evaluation.inputs import check_images
from harp.evaluation.passes import fingerprints
from harp.evaluation.record import Record
from harp.evaluation.statistics import wilson
from harp.modes import evaluating
from harp.own import label_of
from harp.randomness import Keyed, global_draws
from harp.threats import Threat

BOX = Threat(eps=0.0)


@precise()
def under_corruptions(
    model: nn.Module,
    batches: Batches,
    kinds: Collection[str],
    seed: int = 0,
    *,
    folder: Path | None = None,
    tick: Callable[[str, int], None] = lambda kind, n: None,
) -> dict[str, Any]:
    """What `model` comes to under corruptions of five levels, as JSON values: "n", "clean", "kinds" and "mean".

    `batches` as for `evaluate`, images in [0, 1]. A cell is accuracy, low and high (95 % Wilson) and n; a kind has its
    "levels", five cells, and their "mean", and "mean" is that of all kinds. Draws are named by (seed, "corruption",
    kind, level, place), so they repeat. With a `folder` each finished batch of a kind is kept there and not measured
    again, and further kinds may be asked for later on. Raises `HarpError` for unknown kinds, and for a folder with the
    record of another network, seed, version or code, or of other images.
    """
    if not kinds or len({label_of(kind) for kind in ("clean", *kinds)}) <= len(kinds):
        raise HarpError(
            f"corruptions: expected some, each once and none called clean, got {', '.join(kinds) or 'none'}"
        )
    codes = {kind: code_of([CORRUPTIONS[kind]])[0] for kind in kinds}
    model = as_network(model, batches)
    draws = draws_of(model)
    record = Record(folder, {**identity_of(single(model)), "seed": seed, "draws": draws, "measures": "corruptions"})
    right: dict[str, list[Tensor]] = {kind: [] for kind in ("clean", *kinds)}
    with evaluating(model):
        place = 0
        for index, (x, y) in enumerate((usable(x), usable(y)) for x, y in once(batches)):
            check_images(x, BOX, place)
            points, place = torch.arange(place, place + len(x)), place + len(x)
            right["clean"].append(_clean(record, model, seed, index, x, y))
            for kind in kinds:
                tree = record.get(label_of(kind), index)
                if tree is None:
                    noise = Keyed.of(points.to(x.device), seed, "corruption", label_of(kind))
                    levels = [_right(model, x, y, kind, level, noise) for level in LEVELS]
                    tree = {"right": torch.stack(levels), "code": codes[kind]}
                    record.put(label_of(kind), index, tree)
                elif tree["code"] != codes[kind]:
                    raise HarpError(f"{folder} holds the record of another code, of {kind}; choose another folder")
                right[kind].append(tree["right"].cpu())
                tick(label_of(kind), len(x))
    return _told({label_of(kind): torch.cat(parts, -1) for kind, parts in right.items()})


def _clean(record: Record, model: nn.Module, seed: int, index: int, x: Tensor, y: Tensor) -> Tensor:
    prints, answers = fingerprints(x, y), Asker(model, BOX, seed)(x, index)
    record.check(index, prints, answers)
    tree = record.get("clean", index)
    if tree is None:
        with global_draws(x.device, seed, "corruption", "clean", index):
            tree = {**answers, "images": prints, "right": votes(model, x, y) == draws_of(model)}
        record.put("clean", index, tree)
    found: Tensor = tree["right"].cpu()
    return found


def _right(model: nn.Module, x: Tensor, y: Tensor, kind: str, level: int, noise: Keyed) -> Tensor:
    images = corrupted(x, kind, level, noise.at(level))
    with global_draws(x.device, level, "corruption", kind, int(noise.keys[0])):
        return votes(model, images, y) == draws_of(model)


def _told(right: dict[str, Tensor]) -> dict[str, Any]:
    rows = {kind: [_cell(level) for level in flags] for kind, flags in right.items() if kind != "clean"}
    means = {kind: sum(cell["accuracy"] for cell in row) / len(row) for kind, row in rows.items()}
    kinds = {kind: {"levels": row, "mean": means[kind]} for kind, row in rows.items()}
    mean = sum(means.values()) / len(means)
    return {"n": len(right["clean"]), "clean": _cell(right["clean"]), "kinds": kinds, "mean": mean}


def _cell(right: Tensor) -> dict[str, float]:
    count, n = int(right.sum()), len(right)
    low, high = wilson(count, n)
    return {"accuracy": count / n, "low": low, "high": high, "n": n}
