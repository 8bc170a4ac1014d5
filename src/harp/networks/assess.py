"""One network under the attacks of a recipe, with its doubts: what every evaluation of the pipeline goes through."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks import ATTACKS, FAB, VERSIONS, Attack, Cascade, Official, Quick, autoattack, components
from harp.config import EvaluationSettings
from harp.data import Epochs
from harp.errors import HarpError, choices
from harp.evaluation import (
    IDENTITY,
    RESULT,
    Doubt,
    Evidence,
    Flags,
    Outcome,
    Untouched,
    as_network,
    evaluate,
    examine,
    security_curve,
)
from harp.networks.progress import Took, recorded
from harp.networks.sparse import SparseCopies
from harp.own import label_of
from harp.pipeline.display import Display
from harp.pipeline.workspace import Workspace
from harp.randomness import Keyed
from harp.ranks import joined
from harp.registry import accepted
from harp.runs import file_digest, load_tree, read_json, save_tree, write_json
from harp.seals import write_sealed
from harp.threats import Threat, exact

EXAMINED, CURVE = "doubts.json", "curve.safetensors"
BF16 = Doubt("bfloat16-search", "Attacks searched in bfloat16, which finds less than float32 does.", 1.0)


def attacks_of(settings: EvaluationSettings, norm: float, seed: int) -> Mapping[str, Attack]:
    """The attacks that the settings name; a version of AutoAttack is a `Cascade`.

    Raises `HarpError` for an unknown name, for one of AutoAttack's versions beside anything else, and for an attack
    that the engine asked for has not.
    """
    names = settings.attacks
    version = next((name for name in names if name in VERSIONS), None)
    if version is None:
        if len({label_of(name) for name in names}) < len(names):
            raise HarpError(f"attacks: two of {', '.join(names)} have one name; expected each once")
        return {label_of(name): _single(name, settings, seed) for name in names}
    if len(names) > 1:
        raise HarpError(f"attacks: {version} is a whole evaluation; expected it alone, or attacks by name")
    engine = settings.engine or "official"
    parts = autoattack(version, norm=norm, engine=engine, seed=seed, batch=_under_way(settings))
    if engine == "official":
        return parts
    offer = SparseCopies()
    return Cascade({name: Quick(part, settings.bf16, offer) for name, part in parts.items()})


def check(settings: EvaluationSettings, norm: float) -> None:
    """Raises `HarpError` for settings that no evaluation can follow: now, not once everything is trained."""
    attacks_of(settings, norm, 0)
    Outcome.check(settings.acknowledge)


def _single(name: str, settings: EvaluationSettings, seed: int) -> Attack:
    """The attack `name`; those of AutoAttack have their published settings, whoever runs them."""
    published = {part: version for version in reversed(VERSIONS) for part in components(version)}
    if settings.engine == "official":
        if name not in published:
            raise HarpError(f"the official engine has no attack {name!r}; {choices(name, published)}")
        return Official(name, published[name], seed, _under_way(settings))
    own = {"steps": settings.steps, "restarts": settings.restarts, "step": settings.step}
    options = components(published[name])[name] if name in published else own
    factory = ATTACKS[name]
    made = factory(**accepted(factory, {**options, "batch": _under_way(settings)}))
    return Quick(made, settings.bf16, SparseCopies())


def _under_way(settings: EvaluationSettings) -> int:
    # Half a batch at once, so that places which fall free are refilled from the other half.
    return -(-settings.batch_size // 2)


@dataclass(frozen=True)
class Asked:
    """What a network is asked: the threat, the settings of its evaluation, the seed, and where all of it goes.

    Without a `folder` nothing is recorded. `about` is whatever else a reader of the record should know. Images made
    against the `references`, other networks for the same classes, must be no better than attacks on the network.
    """

    threat: Threat
    settings: EvaluationSettings
    seed: int
    display: Display
    title: str
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    references: Sequence[nn.Module] = ()


def assess(model: nn.Module, batches: Epochs, asked: Asked) -> Outcome:
    """What `model` comes to on the images; what is recorded in the folder already is not repeated.

    The folder's result.json holds the outcome's values, the threat, engine, attacks, seed and versions, digests of the
    weights and of the code, the seconds it took, and `about`; it seals all files of the record. Raises `HarpError` for
    all that `attacks_of`, `evaluate` and `Outcome` refuse.
    """
    folder, settings, threat = asked.folder, asked.settings, asked.threat
    attacks = attacks_of(settings, threat.norm, asked.seed)
    untouched, took = Untouched(model), Took(folder)
    earlier = read_json(folder / RESULT, dict[str, Any]) if folder and (folder / RESULT).exists() else None
    done = {name: min(len(batches), recorded(folder, name) * batches.batch_size) for name in ("clean", *attacks)}
    with asked.display.measures(asked.title, len(batches), done) as move:

        def tick(measure: str, n: int) -> None:
            if move(measure, n):
                took.save()

        found = evaluate(model, batches, attacks, threat, asked.seed, folder=folder, tick=tick)
    model, examined = as_network(model, batches), min(settings.doubts, len(batches))
    doubts = joined().told(lambda: tuple(_doubts(model, batches, asked, found.flags, untouched, took)))
    outcome = Outcome(found, doubts, settings.acknowledge, examined)
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
    }
    parts = [path.name for path in folder.iterdir() if path.suffix == ".safetensors"]
    write_sealed(folder / RESULT, values, [IDENTITY, *parts, *([EXAMINED] if (folder / EXAMINED).exists() else [])])
    return outcome


@dataclass(frozen=True)
class Examined:
    """What doubts.json says: of how many images of which record, and the doubts."""

    images: int
    record: str
    doubts: list[Doubt]


def assess_run(
    work: Workspace, model: nn.Module, folder: Path, title: str, references: Sequence[nn.Module] = ()
) -> Outcome:
    """What `model` comes to under the evaluation of a run's recipe, on its test images."""
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
    asked = Asked(work.threat, settings, work.recipe.seed, work.display, title, folder, about, references)
    return assess(model, batches, asked)


def _curve(model: nn.Module, batches: Epochs, asked: Asked, folder: Path) -> None:
    """The folder's curve.safetensors: robust accuracy against eps and its interval, of the sample."""
    path, count = folder / CURVE, asked.settings.curve
    if path.exists() and load_tree(path)["n"] == min(count, len(batches)):
        return
    (folder / RESULT).unlink(missing_ok=True)  # its seal is about the curve before
    x, y, places = _sample(batches, count)
    noise = Keyed.of(places.to(x.device), asked.seed, "curve")
    _, distance = FAB(targets=9, batch=asked.settings.batch_size).nearest(model, x, y, asked.threat, noise)
    save_tree(path, asdict(security_curve(distance.cpu())))


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


def _doubts(
    model: nn.Module, batches: Epochs, asked: Asked, flags: Flags, untouched: Untouched, took: Took
) -> Iterator[Doubt]:
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
        known = Evidence(flags, places, references=asked.references, untouched=untouched)
        found = examine(model, x, y, asked.threat, known, seed=asked.seed, batch=settings.batch_size)
        before = {**whose, "doubts": [asdict(doubt) for doubt in found]}
        took.save()
        if path:
            write_json(path, before)
    yield from (Doubt(**doubt) for doubt in before["doubts"])


def _sample(batches: Epochs, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images and labels at `count` places, evenly spread: a set may be sorted by class."""
    places = torch.linspace(0, len(batches) - 1, min(count, len(batches))).round().long()
    chosen = torch.zeros(len(batches), dtype=torch.bool).index_fill(0, places, True)
    parts = [
        (x[mask.to(x.device)], y[mask.to(y.device)])
        for (x, y), mask in zip(batches.once(), torch.split(chosen, batches.batch_size), strict=True)
    ]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]), chosen.nonzero().squeeze(1)
