"""What others published: typed, complete, and kept out of every ranking."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from harp.arena import Results
from harp.arena.pages import PUBLISHED, markdown, write_pages
from harp.arena.published import FILE, HEADS, _Table, lines, published
from harp.data import DATA


def results(data):
    return Results(
        name="empty",
        recipe="digits",
        data=data,
        threat={},
        attacks={},
        dense=(),
        measured=(),
        failed=(),
        unfinished=0,
        ranking=(),
        neighbours=(),
        environment={},
    )


def entry(**wanted):
    (found,) = (one for one in published() if wanted.items() <= one.model_dump().items())
    return found


def test_every_cell_of_the_tables_is_there():
    tables = Counter(one.source for one in published())
    assert tables == {
        "AdversarialPruningBenchmark, README, CIFAR-10 US pruning": 10 * 6,
        "AdversarialPruningBenchmark, README, CIFAR-10 S pruning": 4 * 6,
        "AdversarialPruningBenchmark, README, SVHN US pruning": 10 * 6 - 3 - 4 - 1,
        "AdversarialPruningBenchmark, README, SVHN S pruning": 3 * 6,
        "RobustBench, CIFAR-10, Linf; sparsity of DNR not listed": 2,
        "RobustBench, CIFAR-10, Linf": 4,
    }


# Read off the sources a second time.
@pytest.mark.parametrize(
    ("method", "data", "architecture", "pruned", "sparsity", "clean", "robust"),
    [
        ("R-ADMM", "cifar10", "ResNet18", "weights", 90, 80.54, 43.68),
        ("HARP", "cifar10", "ResNet18", "weights", 99, 83.11, 45.50),
        ("FlyingBird", "cifar10", "VGG16, one linear layer", "weights", 99, 72.49, 40.49),
        ("R-ADMM", "svhn", "VGG16, one linear layer", "weights", 90, 62.25, 44.40),
        ("MAD", "svhn", "VGG16, one linear layer", "weights", 95, 86.40, 24.90),
        ("RobustBird", "svhn", "ResNet18, pre-activation", "weights", 99, 86.12, 42.62),
        ("DNR", "cifar10", "ResNet-18", "weights", None, 87.32, 40.41),
    ],
)
def test_numbers_stand_in_their_columns(method, data, architecture, pruned, sparsity, clean, robust):
    found = entry(method=method, data=data, architecture=architecture, pruned=pruned, sparsity=sparsity)
    assert (found.clean, found.robust) == (clean, robust)


def test_filters_are_apart_from_weights():
    found = [one for one in published() if one.pruned.startswith("filters")]
    assert {one.sparsity for one in found} == {50, 75, 90}
    assert (found[0].method, found[0].clean, found[0].robust) == ("R-ADMM", 79.27, 42.68)
    assert (found[-1].method, found[-1].clean, found[-1].robust) == ("TwinRep", 89.61, 44.83)


def test_each_says_how_it_was_measured_and_on_images_that_we_know():
    assert {one.protocol.attack for one in published()} == {"AutoAttack standard"}
    for one in published():
        board = one.source.startswith("AdversarialPruningBenchmark")
        assert (one.protocol.eps, one.protocol.n) == ((0.031, 10_000) if board else (8 / 255, None))
        assert one.data in DATA
        assert one.robust < one.clean


def test_a_line_has_a_text_for_every_head():
    first = dict(zip(HEADS, lines("svhn")[0], strict=True))
    assert (first["method"], first["removed"], first["paper"]) == ("HYDRA", "90 %", "Sehwag et al., NeurIPS 2020")
    assert first["protocol"] == "AutoAttack standard, norm inf, eps 0.031, n = 10,000"
    assert lines("digits") == []


def test_pages_show_those_of_the_arenas_images_apart(tmp_path):
    write_pages(results("svhn"), tmp_path)
    for text in ((tmp_path / "arena.html").read_text(), (tmp_path / "arena.md").read_text()):
        assert text.count(PUBLISHED) == 1
        assert text.count("AdversarialPruningBenchmark, README, SVHN") == 70
        assert "CIFAR" not in text
    for name in ("arena.tex", "results.csv"):
        assert "HYDRA" not in (tmp_path / name).read_text()


def test_nothing_is_said_where_nothing_is_published(tmp_path):
    write_pages(results("digits"), tmp_path)
    assert PUBLISHED not in (tmp_path / "arena.html").read_text() + markdown(results("digits"))


def test_a_cell_that_is_no_pair_is_refused():
    table = {"source": "a", "data": "svhn", "pruned": "weights", "columns": [["VGG16", 90]], "rows": {"HARP": ["92.1"]}}
    with pytest.raises(ValidationError, match="expected clean/robust"):
        _Table.model_validate({**table, "protocol": {"attack": "AutoAttack", "norm": "inf", "eps": "8/255"}})


def test_the_file_is_shipped():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["harp"]
    assert any(FILE.relative_to(FILE.parents[1]).match(pattern) for pattern in patterns)
