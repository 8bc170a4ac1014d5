"""What a grid means: which cells, from which start, for how long."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harp.arena import Grid
from harp.arena.grid import cells, dense_cell, read_grid
from harp.config import check_plan, make_settings
from harp.errors import HarpError
from harp.pruners import options_of

GRIDS = Path(__file__).parents[2] / "benchmarks" / "grids"
ROWS = [
    "harp",
    "flyingbird",
    "magnitude",
    {"LAMP": {"prune": {"method": "magnitude", "options": {"allocation": "lamp"}}}},
]
EPOCHS = {"pretrain": {"epochs": 5}, "prune": {"epochs": 3, "options": {"gamma": 0.5}}, "finetune": {"epochs": 2}}


def grid(**settings):
    return make_settings(Grid, {"settings": EPOCHS, "rows": ROWS, **settings})


def found(tmp_path, **settings):
    return list(cells(grid(**settings), tmp_path))


def test_there_is_a_cell_for_each_row_budget_and_seed_seed_by_seed(tmp_path):
    found_cells = found(tmp_path, keeps=[0.1, 0.01], seeds=[0, 7])
    assert [(cell.row, cell.keep, cell.seed) for cell in found_cells[:5]] == [
        ("harp", 0.1, 0),
        ("flyingbird", 0.1, 0),
        ("magnitude", 0.1, 0),
        ("LAMP", 0.1, 0),
        ("harp", 0.01, 0),
    ]
    assert len(found_cells) == len({cell.folder for cell in found_cells}) == 16
    assert all(cell.recipe.seed == cell.seed and cell.recipe.prune.keep == cell.keep for cell in found_cells)


def test_further_budgets_come_last_and_under_the_first_seed_only(tmp_path):
    found_cells = found(tmp_path, rows=["harp"], keeps=[0.01], seeds=[4, 7], once=[0.1, 0.001])
    assert [(cell.keep, cell.seed) for cell in found_cells] == [(0.01, 4), (0.01, 7), (0.1, 4), (0.001, 4)]


def test_cells_measure_their_last_network_unless_the_grid_says_otherwise(tmp_path):
    settings = {**EPOCHS, "evaluation": {"networks": "all"}}
    assert {cell.recipe.evaluation.networks for cell in found(tmp_path)} == {"last"}
    assert {cell.recipe.evaluation.networks for cell in found(tmp_path, settings=settings)} == {"all"}


def test_dense_networks_may_be_measured_otherwise_but_not_trained(tmp_path):
    fewer = grid(dense={"evaluation": {"images": 20}})
    assert dense_cell(fewer, 0).recipe.evaluation.images == 20
    assert {cell.recipe.evaluation.images for cell in cells(fewer, tmp_path)} == {None}
    with pytest.raises(HarpError, match="settings of pretrain, which all rows have in common; there are: evaluation"):
        grid(dense={"pretrain": {"epochs": 1}})


def test_all_methods_of_a_seed_start_from_its_dense_network_but_those_from_scratch(tmp_path):
    dense = tmp_path / dense_cell(grid(), 0).folder / "1-pretrain" / "model.safetensors"
    sources = {cell.row: cell.recipe.prune.source for cell in found(tmp_path)}
    assert sources == {"harp": dense, "flyingbird": None, "magnitude": dense, "LAMP": dense}


def test_all_train_for_as_long_in_all(tmp_path):
    epochs = {cell.row: (cell.recipe.prune.epochs, cell.recipe.finetune.epochs) for cell in found(tmp_path)}
    assert epochs == {"harp": (3, 2), "flyingbird": (5 + 3, 2), "magnitude": (3, 2 + 3), "LAMP": (3, 2 + 3)}
    own = {cell.row: (cell.recipe.prune.epochs, cell.recipe.finetune.epochs) for cell in found(tmp_path, epochs="own")}
    assert set(own.values()) == {(3, 2)}


def test_a_row_that_names_its_own_epochs_keeps_them(tmp_path):
    row = {"short": {"prune": {"method": "magnitude"}, "finetune": {"epochs": 1}}}
    (cell,) = found(tmp_path, rows=[row])
    assert cell.recipe.finetune.epochs == 1


def test_options_are_those_of_the_rows_method(tmp_path):
    options = {cell.row: dict(cell.recipe.prune.options) for cell in found(tmp_path)}
    assert options == {"harp": {"gamma": 0.5}, "flyingbird": {}, "magnitude": {}, "LAMP": {"allocation": "lamp"}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": ["harp", "harp"]}, "two are called harp"),
        ({"rows": [{"a b": {}}, {"a/b": {}}]}, "two are called a-b"),
        ({"keeps": [0.1, 0.1]}, "keeps and once: expected each once, got 0.1, 0.1"),
        ({"keeps": [0.1], "once": [0.1]}, "keeps and once: expected each once, got 0.1, 0.1"),
        ({"seeds": [3, 3]}, "seeds: expected each once, got 3, 3"),
        ({"rows": [{"mine": {"threat": {"eps": 0.2}}}]}, "mine has settings of threat, which all rows have in common"),
        ({"rows": [{"a": {}, "b": {}}]}, "expected a method's name, or a label with settings"),
        ({"keeps": [0]}, "keeps.0: input should be greater than 0"),
        ({"rowz": []}, "no setting 'rowz'; did you mean 'rows'"),
        ({"recipe": "digit"}, "did you mean 'digits'"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path, settings, words):
    with pytest.raises(HarpError) as refusal:
        found(tmp_path, **settings)
    assert words in str(refusal.value)


def test_a_row_that_cannot_work_is_a_cell_all_the_same(tmp_path):
    bad = {"bad": {"prune": {"method": "no-such", "keep": 3}}}
    assert [cell.row for cell in found(tmp_path, rows=["harp", bad])] == ["harp", "bad"]


def test_a_grid_is_read_from_yaml(tmp_path):
    (tmp_path / "grid.yaml").write_text("rows: [hydra, mine: {prune: {method: harp}}]\nkeeps: [0.1]\n")
    assert [cell.row for cell in cells(read_grid(tmp_path / "grid.yaml"), tmp_path)] == ["hydra", "mine"]


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_grids_that_come_along_name_what_there_is(tmp_path, path):
    for cell in cells(read_grid(path), tmp_path):
        options_of(cell.recipe.prune.method, cell.recipe.prune.options)
        check_plan(cell.recipe)


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "a\\b", ""])
def test_no_name_leads_out_of_the_arenas_folder(tmp_path, name):
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"name": name, "rows": ["harp"]}))
    with pytest.raises(HarpError, match=r"^name: expected a word for a folder"):
        read_grid(tmp_path / "grid.yaml")
    row = Grid(rows=({name: {"prune": {"method": "harp"}}},))
    folders = [(tmp_path / cell.folder).resolve() for cell in cells(row, tmp_path)]
    assert [folder.parent for folder in folders] == [tmp_path / "cells"]


def test_the_room_can_be_called_as_its_function():
    """`from harp.arena import ...` before the first `harp.arena(...)` puts the module in the function's place."""
    program = "import harp\nfrom harp.arena import read_grid\nharp.arena('gone.yaml')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "HarpError: " in done.stderr
    assert "gone.yaml" in done.stderr
