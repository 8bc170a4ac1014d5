"""The networks by name: found, held against their digests, described, and entered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harp.errors import HarpError, choices
from harp.runs import file_digest, file_word, read_json, write_atomic, write_json

PREFIX = "zoo:"
FOLDER = Path(__file__).parent / "networks"
DIGESTS = "digests.json"


class Card(BaseModel):
    """What is known of a network of the zoo: how it was made, and what was measured of just this file.

    `settings` are those of a recipe that repeat the evaluation: images, threat, attacks, seed, threads. `result` is
    what that evaluation put on record; `counts` and `bytes` are the package's. `source` says from which run it comes.
    """

    method: str
    keep: float
    settings: dict[str, Any]
    result: dict[str, Any]
    counts: dict[str, int]
    bytes: int
    source: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: its name, its package, and its card."""

    name: str
    path: Path
    card: Card


def names(folder: Path = FOLDER) -> list[str]:
    """The networks that there are."""
    path = folder / DIGESTS
    digests = read_json(path, dict[str, str]) if path.exists() else {}
    return sorted(name.removesuffix(".safetensors") for name in digests if name.endswith(".safetensors"))


def find(name: str, folder: Path = FOLDER) -> Entry:
    """The network called `name`; raises `HarpError` for an unknown one, and where a file is not the one entered."""
    if name not in names(folder):
        raise HarpError(f"no network {name!r} in the zoo; {choices(name, names(folder))}")
    digests = read_json(folder / DIGESTS, dict[str, str])
    for file in _files(name):
        path = folder / file
        if not path.is_file() or file_digest(path) != digests.get(file):
            raise HarpError(f"{path} is not the file that the zoo's digests are of; install harp-pruning anew")
    return Entry(name, folder / f"{name}.safetensors", Card.model_validate(read_json(folder / f"{name}.json")))


def enter(name: str, package: bytes, card: Card, folder: Path = FOLDER) -> None:
    """The network stands in the zoo under `name`, with its digests; one of that name before is replaced."""
    package_file, card_file = _files(file_word("a network of the zoo", name))
    write_atomic(folder / package_file, package)
    write_json(folder / card_file, card.model_dump(mode="json"))
    path = folder / DIGESTS
    digests = read_json(path, dict[str, str]) if path.exists() else {}
    fresh = {file: file_digest(folder / file) for file in (package_file, card_file)}
    write_json(path, dict(sorted({**digests, **fresh}.items())))


def in_words(card: Card) -> str:
    """The network in one line: method, share kept, accuracies in percent with n, and size."""
    measures, threat = card.result["measures"], card.result["threat"]
    clean, worst = (measures[name] for name in ("clean", "worst"))
    doubts = worst.get("doubts")
    robust = f"in doubt: {', '.join(doubts)}" if doubts else f"robust {100 * worst['accuracy']:.1f} %"
    accuracies = f"clean {100 * clean['accuracy']:.1f} %, {robust} (n {worst['n']:,}, eps {threat['eps']})"
    return f"{card.method}, {100 * card.keep:g} % of the weights: {accuracies}; {card.bytes:,} bytes"


def repeats(card: Card, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence on whether an evaluation, as JSON values, says of every class and measure what the card says.

    There is none where it was asked something else: other images, attacks, threat or seed.
    """
    asked = ("threat", "attacks", "seed", "data")
    if any(values.get(name) != card.result.get(name) for name in asked):
        return
    kept = card.result["classes"]
    if values["classes"] == kept:
        yield f"the zoo's card says the same, measure by measure and class by class, of {values['n']:,} images"
        return
    off = sum(abs(n - kept[label].get(name, 0)) for label, row in values["classes"].items() for name, n in row.items())
    yield f"the zoo's card says otherwise: the counts by class and measure are off by {off:,} in all"


def _files(name: str) -> tuple[str, str]:
    return f"{name}.safetensors", f"{name}.json"
