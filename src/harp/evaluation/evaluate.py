"""Accuracy under attack, example by example, in a record that survives being killed."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harp.attacks import Attack, AttackWarning, fits
from harp.attacks.losses import wrong
from harp.errors import HarpError
from harp.evaluation.balanced import balanced_accuracy
from harp.evaluation.inputs import check_images, check_labels, mode_note
from harp.evaluation.record import Record, digest
from harp.evaluation.statistics import wilson
from harp.evaluation.steadiness import Untouched, accompanied
from harp.evaluation.verdicts import attacked
from harp.models import Function, classes_of
from harp.modes import evaluating
from harp.randomness import Keyed
from harp.runs import Tree
from harp.threats import Threat

Flags = Mapping[str, Tensor]
"""Measure -> bool tensor [n], true where the model was right: "clean", each attack, and "worst", right under all."""

KEPT_LOGITS = 16  # of each batch: enough to tell two models apart


class _Once(Protocol):
    def once(self) -> Iterator[tuple[Tensor, Tensor]]: ...


Batches = Iterable[tuple[Tensor, Tensor]] | _Once
"""A list of (x, y), or data with `once()`: x float [n, c, h, w] in the threat's box, y int64 [n], always the same."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` saw of n examples, on the CPU.

    `distance` (float32 [n]) is the norm of the perturbation that first broke an example: 0 where it was wrong clean,
    infinite where it held; `broken_by` names the measure, "" where it held. `notes` are the attacks' own warnings.
    """

    flags: Flags
    labels: Tensor
    distance: Tensor
    broken_by: tuple[str, ...]
    notes: tuple[str, ...]
    cascade: bool


def evaluate(
    model: nn.Module | Callable[[Tensor], object],
    batches: Batches,
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int = 0,
    *,
    cascade: bool = False,
    folder: Path | None = None,
    tick: Callable[[str, int], None] = lambda measure, n: None,
) -> Evaluation:
    """Where `model`, a network or any callable that gives logits, is right: clean, and under each attack.

    With a `folder`, the record of every batch is kept there.
    Each attack is tried on what is right clean, or, in a `cascade`, on what all attacks before it left, as AutoAttack
    does; its flags then count those. An example's noise is named by (seed, "evaluate", attack, its place), so verdicts
    do not depend on how examples are batched beyond the rounding of batched arithmetic. The model is in eval mode
    while it is measured. A finished batch of `folder` is not measured again; the same call after a kill ends with the
    same record. `tick` is called with the measure and each batch's size.

    Raises `HarpError` for an attack called "clean" or "worst", for images outside the threat's box or labels outside
    the logits, for an attack that leaves the threat, and for a folder with the record of another model, data set,
    threat, attack, seed or version.
    """
    taken = {"clean", "worst"} & set(attacks)
    if taken:
        raise HarpError(f"an attack cannot be called {taken.pop()!r}: that measure is always taken")
    model = model if isinstance(model, nn.Module) else Function(model)
    note = mode_note(model)
    record = Record(folder, _asked(model, attacks, threat, seed, cascade))
    untouched = Untouched(model)
    with evaluating(model):
        count = 0
        for index, x, y, points in _placed(batches):
            if not index:
                model = accompanied(model, x)
                for attack in attacks.values():
                    fits(attack, x, threat)
            _clean(record, index, int(points[0]) if len(points) else 0, model, x, y, threat)
            tick("clean", len(x))
            count = index + 1
        if not count or record.get("clean", count) is not None:
            raise HarpError("there are no batches to evaluate on" if not count else f"{folder} holds a record of more")
        before = ["clean"]
        for name, attack in attacks.items():
            for index, x, y, points in _placed(batches):
                if record.get(name, index) is None:
                    alive = torch.stack([_right(record, other, index) for other in before]).all(0).to(x.device)
                    noise = Keyed.of(points.to(x.device), seed, "evaluate", name)
                    record.put(name, index, _broken(model, untouched, attack, x, y, alive, threat, noise))
                tick(name, len(x))
            if cascade:
                before.append(name)
    found = _gathered(record, count, tuple(attacks), cascade)
    return replace(found, notes=(note, *found.notes)) if note else found


def _asked(model: nn.Module, attacks: Mapping[str, Attack], threat: Threat, seed: int, cascade: bool) -> dict[str, Any]:
    return {
        "model": digest(model.state_dict()),
        "threat": repr(threat),
        "attacks": {name: repr(attack) for name, attack in attacks.items()},
        "cascade": cascade,
        "seed": seed,
        "version": {name: version(name) for name in ("harp-pruning", "torch")},
    }


def once(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Every batch once; raises `HarpError` for an iterator, which would be used up."""
    if isinstance(batches, Iterable):
        if iter(batches) is batches:
            raise HarpError("batches can be gone through only once; expected a list, or data with once()")
        return iter(batches)
    return batches.once()


def _placed(batches: Batches) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    place = 0
    for index, (x, y) in enumerate(once(batches)):
        yield index, x, y, torch.arange(place, place + len(x))
        place += len(x)


def _clean(record: Record, index: int, first: int, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
    """The batch's clean verdicts are in the record; one that was there already is compared with what is here now."""
    check_images(x, threat, first)
    data = digest({"x": x, "y": y})
    if record.get("clean", index) is not None:
        with torch.no_grad():
            record.check(index, data, model(x[:KEPT_LOGITS]))
        return
    with torch.no_grad():
        logits = model(x)
    check_labels(y, len(x), classes_of(logits, len(x)), first)
    right = ~wrong(logits, y)
    record.put("clean", index, {"right": right, "labels": y, "logits": logits[:KEPT_LOGITS], "data": data})


def _right(record: Record, measure: str, index: int) -> Tensor:
    tree = record.get(measure, index)
    assert tree is not None
    right: Tensor = tree["right"]
    return right


def _broken(
    model: nn.Module,
    untouched: Untouched,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    alive: Tensor,
    threat: Threat,
    noise: Keyed,
) -> Tree:
    """Who of the batch is right under the attack, and, for those it broke, their places, images and distances."""
    places = alive.nonzero().squeeze(1)
    right, notes, adv = alive.clone(), [], x[:0]
    if len(places):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", AttackWarning)
            held, adv = attacked(model, attack, x[places], y[places], threat, noise.take(places), untouched)
        notes = [str(warning.message) for warning in heard if isinstance(warning.message, AttackWarning)]
        right[places] = held
        places, adv = places[~held], adv[~held]
    distance = threat.distance(adv, x[places])
    return {"right": right, "places": places, "adv": adv, "distance": distance, "notes": notes}


def _gathered(record: Record, count: int, attacks: tuple[str, ...], cascade: bool) -> Evaluation:
    """The record's `count` batches, put together."""
    flags: dict[str, list[Tensor]] = {name: [] for name in ("clean", *attacks)}
    labels, distances, broken_by, notes = [], [], [], []
    for index in range(count):
        trees = {name: record.get(name, index) or {} for name in flags}
        for name, parts in flags.items():
            parts.append(trees[name]["right"].cpu())
        labels.append(trees["clean"]["labels"].cpu())
        distance, by = _broken_first({name: trees[name] for name in attacks}, flags["clean"][-1])
        distances.append(distance)
        broken_by += by
        notes += [f"{name}: {note}" for name in attacks for note in trees[name]["notes"]]
    joined = {name: torch.cat(parts) for name, parts in flags.items()}
    joined["worst"] = torch.stack(list(joined.values())).all(0)
    unique = tuple(dict.fromkeys(notes))
    return Evaluation(joined, torch.cat(labels), torch.cat(distances), tuple(broken_by), unique, cascade)


def _broken_first(trees: Mapping[str, Tree], clean: Tensor) -> tuple[Tensor, list[str]]:
    """How far from each image the first adversarial one was, and whose it was."""
    distance = torch.where(clean, torch.inf, 0.0)
    by = ["" if right else "clean" for right in clean.tolist()]
    for name, tree in trees.items():
        for place, far in zip(tree["places"].tolist(), tree["distance"].tolist(), strict=True):
            if not by[place]:
                by[place], distance[place] = name, far
    return distance, by


def summary(flags: Flags, labels: Tensor | None = None) -> dict[str, dict[str, Any]]:
    """Each measure's accuracy in [0, 1], its 95 % Wilson interval (low, high) and n.

    With `labels` also "balanced", the same of the mean of the classes' accuracies, as is customary for SVHN.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, right in flags.items():
        low, high = wilson(int(right.sum()), len(right))
        rows[name] = {"accuracy": int(right.sum()) / len(right), "low": low, "high": high, "n": len(right)}
        if labels is not None:
            rows[name]["balanced"] = asdict(balanced_accuracy(right, labels))
    return rows
