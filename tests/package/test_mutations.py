"""Packages with random changes in their documents, under right checksums: refused, or read as a graph that runs."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harp.errors import HarpError
from harp.graph import run
from harp.package import Manifest, read, write
from harp.runtime import compile
from tests.package.networks import network, resealed

OTHER: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 3, 24, 25, 2**31, 2**48, 2**63, 10**30, 0.5, 1e308, "", "x", "int8", "float64", "inf"),
    *([], {}, [1], [[]], [0, 2**40], [10**6, 10**6], {"ref": "x"}, {"ref": "conv"}, {"float": "nan"}),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value, with each of its keys or indices."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


def mutate(random: random.Random, document: dict[str, Any]) -> None:
    container, key = random.choice(list(places(document)))
    other, where = random.choice(list(places(document)))
    kind = random.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and type(container[key]) is int:
        container[key] += random.choice((-2, -1, 1, 2, 8))
    elif kind == 2:
        container[key] = copy.deepcopy(other[where])
    else:
        container[key] = copy.deepcopy(random.choice(OTHER))


@pytest.mark.parametrize("values", ["fp32", "int8"])
def test_any_change_is_refused_or_a_graph_that_runs(values, tmp_path):
    write(tmp_path / "a", network(0.3), Manifest("it", ("a", "b", "c", "d")), values)
    data, chance, refused = (tmp_path / "a").read_bytes(), random.Random(0), 0
    for _ in range(400):
        (tmp_path / "a").write_bytes(data)
        resealed(tmp_path / "a", lambda document, _: mutate(chance, document))
        try:
            graph = read(tmp_path / "a").graph
            assert run(graph, torch.rand(2, *graph.shape)).ndim == 2
        except HarpError:
            refused += 1
    assert 300 < refused < 400


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_any_change_is_refused_or_computed_as_pytorch_does(count, tmp_path):
    """Half of the changes are of the graph alone, which is where the engine could differ."""
    write(tmp_path / "a", network(0.3), Manifest("it", ("a", "b", "c", "d")))
    data, chance, noise, refused = (tmp_path / "a").read_bytes(), random.Random(1), torch.Generator(), 0
    noise.manual_seed(0)

    def documents(document: dict[str, Any], _: Any) -> None:
        mutate(chance, document)

    def graphs(document: dict[str, Any], _: Any) -> None:
        mutate(chance, document["graph"])

    for number in range(count):
        (tmp_path / "a").write_bytes(data)
        resealed(tmp_path / "a", graphs if number % 2 else documents)
        try:
            graph = read(tmp_path / "a").graph
            images = torch.rand(graph.batch or 2, *graph.shape, generator=noise)
            made = compile(graph)(images)
        except HarpError:
            refused += 1
            continue
        expected = run(graph, images)
        scale = expected.nan_to_num(posinf=0, neginf=0).abs().max().clamp(min=1e-30)
        assert torch.allclose(made / scale, expected / scale, atol=1e-5, equal_nan=True)
    assert 0.5 * count < refused < count
