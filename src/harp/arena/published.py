"""Numbers that others published, each under its own protocol: to be read beside ours, not ranked with them."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harp.config.values import Norm, Positive

FILE = Path(__file__).with_name("published.yaml")
NONE = "-"

Percent = Annotated[float, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Protocol(_Strict):
    """How robustness was measured: the attack, its threat, and on how many test images, None where that isn't told."""

    attack: str
    norm: Norm
    eps: Positive
    n: int | None = None


class Published(_Strict):
    """One network of one paper; clean, robust and sparsity in percent, as printed."""

    method: str
    paper: str
    venue: str
    year: int
    data: str
    """the data set's name here"""
    architecture: str
    """as the source calls it, with what the method's own code has otherwise"""
    pruned: str
    sparsity: Percent | None
    """share that was removed, 0 for dense networks, None where the source doesn't tell"""
    clean: Percent
    robust: Percent
    protocol: Protocol
    source: str
    """the table or repository that the numbers are copied from"""


class _Method(_Strict):
    paper: str
    venue: str
    year: int
    forms: dict[str, str] = {}


def _cell(text: str) -> str:
    if text != NONE and len(text.split("/")) != 2:
        raise ValueError(f"expected clean/robust or {NONE}")
    return text


class _Table(_Strict):
    source: str
    data: str
    pruned: str
    protocol: Protocol
    columns: tuple[tuple[str, Percent | None], ...]
    rows: dict[str, tuple[Annotated[str, AfterValidator(_cell)], ...]]


class _File(_Strict):
    methods: dict[str, _Method]
    tables: tuple[_Table, ...]


@lru_cache
def published() -> tuple[Published, ...]:
    """Every published number on record, in the order of its source."""
    found = _File.model_validate(yaml.safe_load(FILE.read_text()))
    return tuple(entry for table in found.tables for entry in _entries(table, found.methods))


def _entries(table: _Table, methods: dict[str, _Method]) -> Iterator[Published]:
    for place, (network, sparsity) in enumerate(table.columns):
        for name, cells in table.rows.items():
            if cells[place] == NONE:
                continue
            method, (clean, robust) = methods[name], map(float, cells[place].split("/"))
            form = method.forms.get(network)
            yield Published(
                method=name,
                paper=method.paper,
                venue=method.venue,
                year=method.year,
                data=table.data,
                architecture=f"{network}, {form}" if form else network,
                pruned=table.pruned,
                sparsity=sparsity,
                clean=clean,
                robust=robust,
                protocol=table.protocol,
                source=table.source,
            )


HEADS = ("method", "paper", "network", "pruned", "removed", "clean", "robust", "protocol", "source")


def lines(data: str) -> list[tuple[str, ...]]:
    """What is published of a data set in words, a text for each of `HEADS`; empty where nothing is on record."""
    return [_line(entry) for entry in published() if entry.data == data]


def _line(entry: Published) -> tuple[str, ...]:
    how = entry.protocol
    images = "n not stated" if how.n is None else f"n = {how.n:,}"
    return (
        entry.method,
        f"{entry.paper}, {entry.venue} {entry.year}",
        entry.architecture,
        entry.pruned,
        "not stated" if entry.sparsity is None else f"{entry.sparsity:g} %",
        f"{entry.clean:.2f}",
        f"{entry.robust:.2f}",
        f"{how.attack}, norm {how.norm}, eps {how.eps:g}, {images}",
        entry.source,
    )
