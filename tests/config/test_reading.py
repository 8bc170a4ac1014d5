import math

import pytest
import yaml

from harp.config import RECIPES, Recipe, different, find_recipe, identity, make_recipe, read_recipe, write_recipe
from harp.errors import HarpError

# METHODS 1.4, the CIFAR-10 column of the published settings.
PAPER = {
    "pretrain": {"epochs": 100, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128},
    "prune": {
        "epochs": 20,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "method": "harp",
        "keep": 0.01,
        "floor": 0.1,
        "gamma": 0.01,
        "start_keep": None,
        "rate_weight_decay": None,
    },
    "finetune": {"epochs": 100, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128},
    "attack": {"steps": 10, "step": 0.25},
    "threat": {"norm": "inf", "eps": 8 / 255},
}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [(section, name, value) for section, values in PAPER.items() for name, value in values.items()],
)
def test_defaults_are_the_papers(section, name, value):
    assert getattr(getattr(Recipe(), section), name) == value


@pytest.mark.parametrize("stage", ["pretrain", "prune", "finetune"])
def test_every_stage_trains_adversarially_and_selects_on_held_out_images(stage):
    settings = getattr(Recipe(), stage)
    assert settings.objective == "pgd-at"
    assert settings.selection == "best"
    assert Recipe().data.holdout == 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "no setting 'sed'; did you mean 'seed'? there are: attack, data, "),
        ({"prune": {"kep": 0.1}}, "no setting 'prune.kep'; did you mean 'keep'? there are: awp, "),
        ({"threat": {"epsilon": 0.1}}, "no setting 'threat.epsilon'; did you mean 'eps'? there are: eps, norm"),
    ],
)
def test_an_unknown_key_names_the_nearest(values, message):
    with pytest.raises(HarpError) as error:
        make_recipe(values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"prune": {"keep": 0}}, "prune.keep"),
        ({"prune": {"keep": 1.01}}, "prune.keep"),
        ({"prune": {"keep": math.nan}}, "prune.keep"),
        ({"prune": {"floor": -0.1}}, "prune.floor"),
        ({"prune": {"gamma": math.inf}}, "prune.gamma"),
        ({"pretrain": {"epochs": 0}}, "pretrain.epochs"),
        ({"pretrain": {"lr": 0}}, "pretrain.lr"),
        ({"pretrain": {"lr": math.nan}}, "pretrain.lr"),
        ({"pretrain": {"schedule": "cosin"}}, "pretrain.schedule"),
        ({"pretrain": {"validate_every": "1"}}, "pretrain.validate_every"),
        ({"data": {"holdout": 1}}, "data.holdout"),
        ({"data": 5}, "data"),
        ({"threat": {"norm": "3"}}, "threat.norm"),
        ({"threat": {"eps": -0.1}}, "threat.eps"),
        ({"threat": {"eps": "eight/255"}}, "threat.eps"),
        ({"threat": {"eps": "8/0"}}, "threat.eps"),
        ({"evaluation": {"attacks": "pgd"}}, "evaluation.attacks"),
    ],
)
def test_a_wrong_value_names_its_setting(values, name):
    with pytest.raises(HarpError, match=rf"^{name}: .*, got "):
        make_recipe(values)


def test_each_wrong_setting_has_a_line_of_its_own():
    with pytest.raises(HarpError) as error:
        make_recipe({"seed": "x", "prune": {"keep": 2}})
    assert len(str(error.value).split("\n")) == 2


@pytest.mark.parametrize("written", ["8/255", " 8 / 255 ", 8 / 255, str(8 / 255)])
def test_eps_may_be_a_fraction(written):
    assert make_recipe({"threat": {"eps": written}}).threat.eps == 8 / 255


@pytest.mark.parametrize(("written", "order"), [("norm: inf", math.inf), ("norm: '2'", 2), ("norm: 2", 2)])
def test_both_norms_are_read_from_yaml_as_one_writes_them(written, order):
    assert make_recipe({"threat": yaml.safe_load(written)}).threat.order == order


def test_yaml_spells_out_every_setting_and_comes_back():
    recipe = make_recipe(
        {
            "name": "mine",
            "data": {"path": "images", "train": 100, "flip": True},
            "model": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
            "threat": {"eps": "8/255", "norm": "2"},
            "prune": {"weight_decay": 1e-5, "validate_every": "500it"},
            "evaluation": {"attacks": ["pgd"]},
        }
    )
    written = yaml.safe_load(write_recipe(recipe))
    assert make_recipe(written) == recipe
    assert identity(make_recipe(written)) == identity(recipe)
    assert written.keys() == Recipe.model_fields.keys()
    assert written["finetune"]["momentum"] == 0.9


def test_the_identity_of_the_defaults_is_pinned():
    # A new setting with a default that changes nothing must not rename the runs that exist: sha256 of "{}".
    assert identity(Recipe()) == "44136fa3"


def test_the_identity_of_a_small_recipe_is_pinned():
    assert different(make_recipe({"seed": 1, "prune": {"keep": 0.1}})) == {"seed": 1, "prune": {"keep": 0.1}}
    assert identity(make_recipe({"seed": 1, "prune": {"keep": 0.1}})) == "f1212eee"


@pytest.mark.parametrize(
    "spelled", [{"seed": 0}, {"prune": {"keep": 0.01}}, {"threat": {"eps": "8/255"}}, {"data": {}}]
)
def test_spelling_out_a_default_changes_no_identity(spelled):
    assert make_recipe(spelled) == Recipe()
    assert identity(make_recipe(spelled)) == identity(Recipe())


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"prune": {"keep": 0.1}}, {"finetune": {"lr": 0.1}}, {"device": "cpu"}]
)
def test_every_other_value_changes_the_identity(changed):
    assert identity(make_recipe(changed)) != identity(Recipe())


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.yaml"))])
def test_every_recipe_that_comes_with_harp_is_valid(name):
    assert make_recipe(read_recipe(find_recipe(name))).name == name


def test_a_recipe_is_found_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nprune: {keep: 0.1}\n")
    assert find_recipe(str(path)) == path
    assert make_recipe(read_recipe(path)).prune.keep == 0.1


def test_a_recipe_that_does_not_exist():
    with pytest.raises(HarpError, match=r"no recipe 'digit'; did you mean 'digits'\? there are: .*digits"):
        find_recipe("digit")
    with pytest.raises(HarpError, match=r"no recipe file none\.yaml"):
        find_recipe("none.yaml")


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"seed: [\n", b"\xff\xfe\x00", b"!!python/object:os.system {}\n"])
def test_a_file_that_is_no_recipe(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(HarpError, match=r"bad\.yaml is not a "):
        read_recipe(path)


def test_a_recipe_file_that_is_gone(tmp_path):
    with pytest.raises(HarpError, match="is not a readable recipe"):
        read_recipe(tmp_path / "gone.yaml")
