"""A model card from a package's own manifest: nothing is in it that is not on record."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import yaml

from harp.errors import HarpError
from harp.files import checked, read_json
from harp.package import Manifest, Package
from harp.report import formats
from harp.threats import exact
from harp.written import Accuracy

FILE = "package.safetensors"
LONGEST = 200  # characters of a name or a setting; a file may claim any


class About(TypedDict, total=False):
    """What a card says beside what is on record."""

    licence: str | None
    """under which the network may be used, as the hub's short name, such as apache-2.0; None: none is named"""
    base_model: str | None
    """the hub's name of the network that was pruned; None: none is named"""
    bench: Path | str | None
    """what `harp bench NETWORK --out FILE` wrote, from which times are told; None: none are"""


def card(package: Package, size: int, repository: str, about: About) -> str:
    """The text of README.md for a package of `size` bytes: the hub's fields, and what is on record of the network.

    Accuracies come with intervals and n; one that a doubt is open about is told as that, and is in no field of the
    hub's. Raises `HarpError` for a `bench` that holds something else.
    """
    manifest = package.manifest
    fields = yaml.safe_dump(_fields(manifest, about), sort_keys=False, allow_unicode=True)
    bench = about.get("bench")
    parts = [
        _opening(manifest),
        _accuracies(manifest),
        _size(manifest, size),
        _times(Path(bench)) if bench is not None else (),
        _loading(repository),
        _origin(package),
    ]
    return "\n".join(["---", fields + "---", "", *(line for part in parts for line in part)])


def _fields(manifest: Manifest, about: About) -> dict[str, Any]:
    data, threat, prune = _data(manifest), manifest.threat, _part(manifest.provenance, "prune")
    tags = ["adversarial-robustness", "pruning", "sparsity", "image-classification"]
    tags += [f"pruned-by-{_word(prune['method'])}"] if "method" in prune else []
    tags += [f"threat-L{threat.norm:g}-{_word(exact(threat.eps))}"] if threat else []
    found = {
        "library_name": "harp",
        "pipeline_tag": "image-classification",
        "license": about.get("licence"),
        "base_model": about.get("base_model"),
        "datasets": [data.removeprefix("hub:")] if data else None,
        "tags": tags,
    }
    return {name: value for name, value in found.items() if value is not None}


def _opening(manifest: Manifest) -> Iterator[str]:
    prune = _part(manifest.provenance, "prune")
    yield f"# {_plain(manifest.name) or 'A pruned network'}"
    yield ""
    kept = (
        f", pruned by {_plain(prune['method'])} to {100 * float(prune['keep']):g} %"
        if {"method", "keep"} <= set(prune)
        else ""
    )
    threat = f"; meant to withstand {formats.threat_name(manifest.threat)}" if manifest.threat else ""
    yield f"An image classifier for {len(manifest.classes) or 'unnamed'} classes{kept}{threat}."
    yield ""
    if manifest.classes:
        yield f"Classes, in the order of the logits: {', '.join(map(_plain, manifest.classes))}."
        yield ""
    yield f"Pixels are from {manifest.low:g} to {manifest.high:g}; whatever else the network needs is inside."
    yield ""


def _accuracies(manifest: Manifest) -> Iterator[str]:
    told = manifest.evaluation
    yield "## Accuracy"
    yield ""
    measures = told.get("measures")
    if not isinstance(measures, Mapping) or not measures:
        yield "No evaluation of this network is on record."
        yield ""
        return
    yield "| | right, % (95 % interval) | n | how |"
    yield "|---|---|---|---|"
    attacks = _part(told, "attacks")
    how = {"clean": "no attack", "worst": "right on the clean image and under every attack"}
    for name, cell in measures.items():
        shown = _accuracy(name, cell)
        detail = how.get(name) or _plain(formats.attack(str(attacks.get(name, ""))))
        yield f"| {_plain(name)} | {formats.interval(shown)} | {shown.n:,} | {detail} |"
    yield ""
    versions = ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in _part(manifest.provenance, "versions").items())
    seed = _plain(told.get("seed", "not on record"))
    yield f"Versions: {versions or 'not on record'}; seed {seed}."
    yield from _doubts(told)
    judged = _part(told, "judged")
    if {"compared", "different"} <= set(judged):
        yield (
            f"This file was shown {_plain(judged['compared'])} of these images, adversarial ones included, and judged "
            f"{_plain(judged['different'])} of them otherwise."
        )
    yield ""


def _doubts(told: Mapping[str, Any]) -> Iterator[str]:
    doubts = told.get("doubts")
    for doubt in doubts if isinstance(doubts, list) else ():
        if isinstance(doubt, Mapping):
            state = "looked into" if doubt.get("acknowledged") else "**open doubt**"
            yield f"- {state}: {_plain(doubt.get('name'))}: {_plain(doubt.get('sentence'))}"
    examined = told.get("examined")
    if examined:
        yield f"Signs of false robustness were looked for on {_plain(examined)} images."
    else:
        yield "**Nobody looked for signs of false robustness.**"


def _size(manifest: Manifest, size: int) -> Iterator[str]:
    yield "## Size"
    yield ""
    counts = manifest.counts
    if counts is not None:
        kept = formats.share(counts.nominal, max(counts.weights, 1))
        yield f"- weights: {counts.nominal:,} of {counts.weights:,} ({kept}); the budget was {counts.budget:,}"
        yield f"- with an effect on the logits: {counts.effective:,}"
    yield f"- file: {formats.file_size(size)}, weights in {_plain(manifest.values)}"
    yield ""


def _times(path: Path) -> Iterator[str]:
    found = read_json(path, dict[str, Any])
    try:
        processor, threads = found["environment"]["cpu"], found["threads"]
        rows = [
            (batch, name, 1000 * float(row["wall"]["median"]))
            for batch, runners in found["batches"].items()
            for name, row in runners.items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise HarpError(f"{path} holds no times; expected what `harp bench NETWORK --out FILE` writes") from None
    yield "## Time"
    yield ""
    yield f"Median of wall time on {_plain(processor)}, {_plain(threads)} thread(s)."
    yield ""
    yield "| images at once | runner | ms |"
    yield "|---|---|---|"
    for batch, name, took in rows:
        yield f"| {_plain(batch)} | {_plain(name)} | {took:.3g} |"
    yield ""


def _loading(repository: str) -> Iterator[str]:
    yield from ("## Use", "", "```python", "import harp", "")
    yield f'model = harp.from_pretrained("{repository}")'
    yield "logits = model(images)  # float [n, c, h, w]; model.module is the same network with gradients"
    yield from ("```", "", "Only one file of weights is fetched, and nothing in it is executed.", "")


def _origin(package: Package) -> Iterator[str]:
    yield "## Where it comes from"
    yield ""
    told = package.manifest.provenance
    recipe, data, source = (_part(told, name) for name in ("recipe", "data", "source"))
    if recipe:
        name, identity, seed = (_plain(recipe.get(part)) for part in ("name", "identity", "seed"))
        yield f"- recipe {name}, identity {identity}, seed {seed}"
    if data:
        yield f"- images: {_plain(data.get('name'))}, fingerprint {_plain(data.get('fingerprint'))}"
    if source:
        yield f"- weights: SHA-256 {_plain(source.get('sha256'))}"
    yield f"- content of {FILE}: SHA-256 {package.seal}"
    threat = package.manifest.threat
    if threat is not None:
        yield from ("", "To attack it again, `test` being batches (x, y) of test images:", "", "```python")
        size, norm = exact(threat.eps).replace("/", " / "), f"{threat.norm:g}"
        yield f'attacks = harp.autoattack(norm=float("{norm}"), engine="harp")'
        yield f'found = harp.evaluate(model.module, test, attacks, harp.Threat(float("{norm}"), {size}))'
        yield from ("print(found.table())", "```")
    yield ""


def _accuracy(name: str, cell: Any) -> Accuracy:
    if not isinstance(cell, Mapping):
        raise HarpError(f"{FILE}: its evaluation's measure {name[:LONGEST]!r} is no accuracy")
    values = {key: cell.get(key) for key in ("accuracy", "low", "high", "n")}
    doubts = [str(doubt)[:LONGEST] for doubt in cell.get("doubts") or ()]
    whole = {**values, "doubts": tuple(map(_plain, doubts)), "examined": cell.get("examined") != 0}
    found: Accuracy = checked(Path(FILE), whole, Accuracy)
    return found


def _percent(value: Any) -> str:
    return f"{100 * value:g} %" if isinstance(value, int | float) else "an unknown share"


def _data(manifest: Manifest) -> str | None:
    name = _part(manifest.provenance, "data").get("name")
    return _plain(name) if isinstance(name, str) and not name.endswith(".py") else None


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _word(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9.+]+", "-", str(value))[:LONGEST].strip("-").lower()


def _plain(value: Any) -> str:
    """Text that is text in Markdown, too, whatever a file put there."""
    line = " ".join(str(value).split())[:LONGEST]
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)
