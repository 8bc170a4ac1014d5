"""What a search may set: read, typed, and checked against every row before anything runs."""

from pathlib import Path

import pytest

from harp.arena.grid import row_of
from harp.config import make_settings, merged
from harp.errors import HarpError
from harp.tuning import Tuning, read_tuning
from harp.tuning.space import Range, Space, check_space, nested, space_of

SEARCHES = Path(__file__).parents[2] / "benchmarks" / "searches"
HARP = {"prune": {"method": "harp"}}
HYDRA = {"prune": {"method": "hydra"}}
S2AP = {"prune": {"method": "s2ap", "options": {"base": "harp"}}}


def read(among):
    return make_settings(Tuning, {"rows": ["harp"], "space": {"finetune.lr": among}}).space["finetune.lr"]


def test_values_to_choose_from_and_ranges_are_read():
    assert read([0.1, "a", None, True]) == (0.1, "a", None, True)
    assert read({"low": 1, "high": 8}) == Range(1, 8)
    assert read({"low": 1, "high": 8}).whole
    assert read({"low": "1/255", "high": 0.1, "log": True}) == Range(1 / 255, 0.1, log=True)


@pytest.mark.parametrize(
    ("among", "said"),
    [
        ([], "expected one value or more to choose from, each once"),
        ([1, 1], "each once"),
        ([[1]], "expected a single value"),
        (0.1, "expected values to choose from, as"),
        ({"low": 1}, "expected numbers as low and high"),
        ({"low": 1, "hihg": 2}, "no 'hihg' in a range; did you mean 'high'"),
        ({"low": 2, "high": 1}, "expected low below high"),
        ({"low": 0, "high": 1, "log": True}, "above 0 where log is true"),
        ({"low": True, "high": 2}, "expected numbers"),
        ({"low": 0, "high": 1, "log": 1}, "log: expected true or false"),
    ],
)
def test_what_is_neither_is_refused(among, said):
    with pytest.raises(HarpError, match=r"space\.finetune\.lr: ") as refusal:
        read(among)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("finetune.lrr", r"no setting 'finetune\.lrr' that can be searched; did you mean 'finetune\.lr'"),
        ("data.train", "no setting 'data.train' that can be searched"),
        ("prune.options.gama", r"no row's method has prune\.options\.gama; did you mean 'prune\.options\.gamma'"),
        ("prune.keep", r"prune\.keep is the same for all that are compared"),
        ("finetune.epochs", r"finetune\.epochs is the same for all"),
    ],
)
def test_settings_that_are_none_or_alike_for_all_are_refused(name, said):
    with pytest.raises(HarpError, match=said):
        check_space({name: (1, 2)}, [HARP, HYDRA])


def test_options_are_for_the_rows_that_have_them():
    space: Space = {"prune.options.gamma": (0.1, 0.2), "finetune.attack.steps": Range(1, 3)}
    check_space(space, [HYDRA, HARP])
    assert list(space_of(space, "harp", HARP)) == ["prune.options.gamma", "finetune.attack.steps"]
    assert list(space_of(space, "s2ap", S2AP)) == ["prune.options.gamma", "finetune.attack.steps"]
    assert list(space_of(space, "hydra", HYDRA)) == ["finetune.attack.steps"]


def test_values_are_those_that_recipe_and_method_take():
    with pytest.raises(HarpError, match=r"space: finetune\.lr: -1 in row a: finetune\.lr: input should be greater"):
        space_of({"finetune.lr": (0.1, -1)}, "a", HARP)
    with pytest.raises(HarpError, match=r"space: prune\.options\.mode: 'exat' in row a: prune\.options\.mode"):
        space_of({"prune.options.mode": ("exat",)}, "a", HARP)


@pytest.mark.parametrize("path", sorted(SEARCHES.glob("*.yaml")), ids=lambda path: path.stem)
def test_searches_that_come_along_are_sound(path):
    tuning = read_tuning(path)
    rows = {label: merged({"prune": {"method": "harp"}}, own) for label, own in map(row_of, tuning.rows)}
    check_space(tuning.space, list(rows.values()))
    assert all(space_of(tuning.space, label, values) for label, values in rows.items())


def test_full_names_become_sections():
    settings = {"finetune.lr": 1, "prune.options.gamma": 2, "finetune.attack.steps": 3}
    assert nested(settings) == {"finetune": {"lr": 1, "attack": {"steps": 3}}, "prune": {"options": {"gamma": 2}}}
