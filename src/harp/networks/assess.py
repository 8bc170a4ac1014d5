"""One network under the attacks of a recipe, with its doubts: what every evaluation of the pipeline goes through."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks import FAB, FMN, Attack, Nearest
from harp.config import EvaluationSettings
from harp.data import Counted
from harp.evaluation import (
    IDENTITY,
    RESULT,
    Doubt,
    Evidence,
    Expected,
    Outcome,
    Untouched,
    as_network,
    evaluate,
    examine,
    security_curve,
)
from harp.networks.attacking import attacks_of, gradient_free, with_transfers
from harp.networks.corrupted import FOLDER, corruptions, kinds_of
from harp.networks.progress import Took, recorded
from harp.pipeline.display import Display
from harp.pipeline.workspace import Workspace
from harp.randomness import Keyed
from harp.ranks import joined
from harp.runs import file_digest, load_tree, read_json, save_tree, write_json
from harp.seals import write_sealed
from harp.threats import Threat, exact

RANDOM = "randomness"  # the doubt that the mean of several draws makes allowance for
EXAMINED, CURVE = "doubts.json", "curve.safetensors"
BF16 = Doubt("bfloat16-search", "Attacks searched in bfloat16, which finds less than float32 does.", 1.0)


def check(settings: EvaluationSettings, norm: float) -> None:
    """Raises `HarpError` for settings that no evaluation can follow: now, not once everything is trained."""
    attacks_of(settings, norm, 0)
    kinds_of(settings)
    Outcome.check(settings.acknowledge)


@dataclass(frozen=True)
class Asked:
    """What a network is asked: the threat, the settings of its evaluation, the seed, and where all of it goes.

    Without a `folder` nothing is recorded. `about` is whatever else a reader of the record should know. Images made
    against the `references`, other networks for the same classes, must be no better than attacks on the network;
    those against the networks `transfers`, by a word for each, are attacks of the evaluation, after all others.
    """

    threat: Threat
    settings: EvaluationSettings
    seed: int
    display: Display
    title: str
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    references: Sequence[nn.Module] = ()
    transfers: Mapping[str, nn.Module] = field(default_factory=dict)

    def attacks(self) -> Mapping[str, Attack]:
        """Those that the settings name, and then images made against other networks."""
        named = attacks_of(self.settings, self.threat.norm, self.seed)
        return with_transfers(named, self.transfers, self.settings)


def assess(model: nn.Module, batches: Counted, asked: Asked) -> Outcome:
    """What `model` comes to on the images; what is recorded in the folder already is not repeated.

    The folder's result.json holds the outcome's values, the threat, engine, attacks, seed and versions, digests of the
    weights and of the code, the seconds it took, and `about`; it seals all files of the record. Raises `HarpError` for
    all that `attacks_of`, `evaluate` and `Outcome` refuse.
    """
    folder, settings, threat = asked.folder, asked.settings, asked.threat
    attacks = asked.attacks()
    if settings.eot > 1:
        model = Expected(model, settings.eot)
    untouched, took = Untouched(model), Took(folder)
    earlier = read_json(folder / RESULT, dict[str, Any]) if folder and (folder / RESULT).exists() else None
    done = {name: min(len(batches), recorded(folder, name) * batches.batch_size) for name in ("clean", *attacks)}
    with asked.display.measures(asked.title, len(batches), done) as move:

        def tick(measure: str, n: int) -> None:
            if move(measure, n):
                took.save()

        found = evaluate(model, batches, attacks, threat, asked.seed, folder=folder, tick=tick)
    model, examined = as_network(model, batches), min(settings.doubts, len(batches))
    known = Evidence(found.flags, None, gradient_free(attacks), references=asked.references, untouched=untouched)
    doubts = joined().told(lambda: tuple(_doubts(model, batches, asked, known, took)))
    outcome = Outcome(found, doubts, settings.acknowledge, examined, (RANDOM,) if settings.eot > 1 else ())
    natural = joined().told(lambda: _natural(model, batches, asked, earlier, took))
    if folder is None or not joined().first:
        return outcome
    if settings.curve:
        asked.display.say(f"{asked.title}: nearest adversarial images ...")
        _curve(model, batches, asked, folder)
        draw(folder, {asked.title: (folder, outcome.values()["measures"]["worst"])}, threat)
    identity = read_json(folder / IDENTITY, dict[str, Any])
    values = {
        **asked.about,
        # Of an evaluation that was finished before, the environment is where it was made, not where it is read.
        **({"environment": earlier["environment"]} if earlier and "environment" in earlier else {}),
        "threat": {"norm": f"{threat.norm:g}", "eps": exact(threat.eps), "low": threat.low, "high": threat.high},
        "attacks": {name: repr(attack) for name, attack in attacks.items()},
        "seed": asked.seed,
        "version": identity["version"],
        "weights": identity["model"],
        "code": identity["code"],
        "seconds": took.seconds,
        **outcome.values(),
        **({"corruptions": natural} if natural else {}),
    }
    parts = [path.name for path in folder.iterdir() if path.suffix == ".safetensors"]
    write_sealed(folder / RESULT, values, [IDENTITY, *parts, *([EXAMINED] if (folder / EXAMINED).exists() else [])])
    return outcome


def _natural(
    model: nn.Module, batches: Counted, asked: Asked, earlier: Mapping[str, Any] | None, took: Took
) -> dict[str, Any] | None:
    """Accuracies under the corruptions asked for, else those that were measured earlier, if any."""
    if not asked.settings.corruptions:
        return (earlier or {}).get(FOLDER)
    found = corruptions(model, batches, asked.settings, asked.seed, asked.display, asked.folder)
    took.save()
    return found


@dataclass(frozen=True)
class Examined:
    """What doubts.json says: of how many images of which record, and the doubts."""

    images: int
    record: str
    doubts: list[Doubt]


def assess_run(
    work: Workspace,
    model: nn.Module,
    folder: Path,
    title: str,
    references: Sequence[nn.Module] = (),
    transfers: Mapping[str, nn.Module] | None = None,
) -> Outcome:
    """What `model` comes to under the evaluation of a run's recipe, on its test images; others are as in `Asked`."""
    settings, images = work.recipe.evaluation, work.split.test
    about = {
        "data": {
            "name": work.split.dataset.name,
            "fingerprint": work.split.dataset.fingerprint,
            "images": len(images),
            "of": len(work.split.dataset.test),
            "notes": list(work.split.notes),
        },
        "model": work.recipe.model.name,
        "environment": work.environment(),
    }
    batches = work.in_order(images, settings.batch_size)
    asked = Asked(
        work.threat, settings, work.recipe.seed, work.display, title, folder, about, references, transfers or {}
    )
    return assess(model, batches, asked)


def _curve(model: nn.Module, batches: Counted, asked: Asked, folder: Path) -> None:
    """The folder's curve.safetensors: robust accuracy against eps and its interval, of the sample."""
    path, count, by = folder / CURVE, asked.settings.curve, asked.settings.curve_by
    if path.exists():
        before = load_tree(path)
        if (before["n"], before.get("by", "fab")) == (min(count, len(batches)), by):
            return
    (folder / RESULT).unlink(missing_ok=True)  # its seal is about the curve before
    x, y, places = _sample(batches, count)
    noise = Keyed.of(places.to(x.device), asked.seed, "curve")
    size = asked.settings.batch_size
    attacks: dict[str, Nearest] = {"fab": FAB(targets=9, batch=size), "fmn": FMN(batch=size)}
    used = [attack for name, attack in attacks.items() if by in (name, "both")]
    found = [attack.nearest(model, x, y, asked.threat, noise)[1] for attack in used]
    save_tree(path, {**asdict(security_curve(torch.stack(found).amin(0).cpu())), "by": by})


def draw(folder: Path, records: Mapping[str, tuple[Path, Mapping[str, Any]]], threat: Threat) -> None:
    """The folder's curve.png and curve.svg: the curves in the folders of `records`, and what all attacks left.

    `records` gives each model the folder of its record and what its result says of the worst case, all attacks
    together; a model whose worst case is in doubt has a curve, but no point on it.
    """
    # Imported late: matplotlib takes a second.
    from harp.report.curves import write_curves
    from harp.report.reading import read_accuracy, read_curve

    curves = {name: read_curve(record / CURVE) for name, (record, _) in records.items()}
    worst = {name: read_accuracy(cell) for name, (_, cell) in records.items()}
    write_curves(folder / "curve", curves, threat, {name: value for name, value in worst.items() if not value.doubts})


def _doubts(model: nn.Module, batches: Counted, asked: Asked, known: Evidence, took: Took) -> Iterator[Doubt]:
    """Those of the sample, examined once, and that of the search's precision."""
    settings, folder = asked.settings, asked.folder
    if settings.bf16:
        yield BF16
    if not settings.doubts:
        return
    path = folder / EXAMINED if folder else None
    whose = {"images": settings.doubts, "record": file_digest(folder / IDENTITY) if folder else ""}
    before = read_json(path, Examined) if path and path.exists() else {}
    if {name: before.get(name) for name in whose} != whose:
        if folder:
            (folder / RESULT).unlink(missing_ok=True)  # its seal is about the doubts before
        x, y, places = _sample(batches, settings.doubts)
        whole = replace(known, places=places)
        found = examine(model, x, y, asked.threat, whole, seed=asked.seed, batch=settings.batch_size)
        before = {**whose, "doubts": [asdict(doubt) for doubt in found]}
        took.save()
        if path:
            write_json(path, before)
    yield from (Doubt(**doubt) for doubt in before["doubts"])


def _sample(batches: Counted, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images and labels at `count` places, evenly spread: a set may be sorted by class."""
    places = torch.linspace(0, len(batches) - 1, min(count, len(batches))).round().long()
    chosen = torch.zeros(len(batches), dtype=torch.bool).index_fill(0, places, True)
    parts = [
        (x[mask.to(x.device)], y[mask.to(y.device)])
        for (x, y), mask in zip(batches.once(), torch.split(chosen, batches.batch_size), strict=True)
    ]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]), chosen.nonzero().squeeze(1)
