import math
from typing import Any

import pytest
import yaml

from harp.config import (
    RECIPES,
    Recipe,
    different,
    find_recipe,
    identity,
    lasting,
    make_recipe,
    measured,
    read_recipe,
    write_recipe,
)
from harp.errors import HarpError

# METHODS 1.4, the CIFAR-10 column of the published settings.
PAPER: dict[str, dict[str, Any]] = {
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
        "options": {},
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
        ({"sed": 1}, "no setting 'sed'; did you mean 'seed'? there are: attack, boards, data, "),
        ({"prune": {"kep": 0.1}}, "no setting 'prune.kep'; did you mean 'keep'? there are 41, the nearest: keep, "),
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
        ({"prune": {"options": {"gamma": math.inf}}}, "prune.options.gamma"),
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
        ({"prune": {"options": {"gamma": [0.1]}}}, "prune.options.gamma"),
        ({"pretrain": {"lr": 1e300}}, "pretrain.lr"),
        ({"pretrain": {"lr": 1e-300}}, "pretrain.lr"),
        ({"pretrain": {"lr": True}}, "pretrain.lr"),
        ({"pretrain": {"epochs": True}}, "pretrain.epochs"),
        ({"pretrain": {"epochs": 10**12}}, "pretrain.epochs"),
        ({"pretrain": {"weight_decay": "inf"}}, "pretrain.weight_decay"),
        ({"pretrain": {"checkpoint_every": f"{9 * 10**20}it"}}, "pretrain.checkpoint_every"),
        ({"data": {"pad": 10**12}}, "data.pad"),
        ({"model": {"width": 1e12}}, "model.width"),
        ({"model": {"mean": [0.5], "std": [0]}}, "model.std.0"),
        ({"model": {"mean": [math.nan], "std": [1]}}, "model.mean.0"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 16**9000}, "seed"),
        ({"threads": 10**9}, "threads"),
        ({"threat": {"eps": "9" * 5000 + "/1"}}, "threat.eps"),
        ({"threat": {"norm": [2]}}, "threat.norm"),
        ({"name": "../../x"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "caf\udce9"}, "name"),
        ({"data": {"path": "caf\udce9"}}, "data.path"),
        ({"data": {"path": "a\0b"}}, "data.path"),
        ({"model": {"name": "a\0b.py:make"}}, "model.name"),
    ],
)
def test_a_wrong_value_names_its_setting(values, name):
    with pytest.raises(HarpError, match=rf"^{name}: .*, got "):
        make_recipe(values)


def test_an_absurd_value_is_told_in_one_short_line():
    nested: list[object] = ["x"] * 9
    for _ in range(12):  # 9^13 words, were they written out
        nested = [nested] * 9
    for values in ({"seed": 16**9000}, {"seed": nested}, {"threat": {"norm": nested}}, {"name": "x" * 10**6}):
        with pytest.raises(HarpError) as error:
            make_recipe(values)
        assert len(str(error.value)) < 1000
        assert "\n" not in str(error.value)


def test_a_thousand_mistakes_are_counted():
    with pytest.raises(HarpError) as error:
        make_recipe({"model": {"include": list(range(1000))}})
    assert len(str(error.value).split("\n")) == 21
    assert str(error.value).endswith("and 980 more")


def test_each_wrong_setting_has_a_line_of_its_own():
    with pytest.raises(HarpError) as error:
        make_recipe({"seed": "x", "prune": {"keep": 2}})
    assert len(str(error.value).split("\n")) == 2


@pytest.mark.parametrize("written", ["8/255", " 8 / 255 ", 8 / 255, str(8 / 255)])
def test_eps_may_be_a_fraction(written):
    assert make_recipe({"threat": {"eps": written}}).threat.eps == 8 / 255


@pytest.mark.parametrize(
    ("written", "order"),
    [("norm: inf", math.inf), ("norm: '2'", 2), ("norm: 2", 2), ("norm: Linf", math.inf), ("norm: l2", 2)],
)
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
        Recipe().seed = 1  # type: ignore[misc]


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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n",
        b"seed: [\n",
        b"\xff\xfe\x00",
        b"!!python/object:os.system {}\n",
        b"seed: " + b"9" * 5000,
        b"seed: " + b"[" * 5000 + b"]" * 5000,
        b"data: " + b"{a: " * 5000 + b"1" + b"}" * 5000,
        b"seed: 1\nseed: 2\n",
        b"prune: {keep: 0.1, keep: 0.2}\n",
        b"#" * 100_001,
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_file_that_is_no_recipe(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(HarpError, match=r"bad\.yaml is not a ") as error:
        read_recipe(path)
    assert "\n" not in str(error.value)


def test_a_recipe_file_that_is_gone(tmp_path):
    with pytest.raises(HarpError, match="is not a readable recipe"):
        read_recipe(tmp_path / "gone.yaml")


def test_a_measured_network_is_known_by_what_decides_its_verdicts():
    usual = {"seed": 3, "threat": {"eps": 0.1}, "evaluation": {"attacks": ["pgd"]}}
    asked = {"attacks": ["pgd"], "doubts": 0, "curve": 9, "curve_by": "fmn", "acknowledge": ["randomness"]}
    more = {"name": "b", "threads": 2, "device": "cpu", "export": {"onnx": True}, "prune": {"keep": 0.5}}
    first, again = (measured(make_recipe(values)) for values in (usual, {**usual, **more, "evaluation": asked}))
    assert identity(first) == identity(again) == identity(make_recipe(usual))
    for change in (
        {"seed": 4},
        {"threat": {"eps": 0.2}},
        {"evaluation": {"attacks": ["fgsm"]}},
        {"model": {"width": 2}},
    ):
        assert identity(measured(make_recipe({**usual, **change}))) != identity(first)


def test_what_may_be_asked_afterwards_is_no_part_of_a_run():
    asked = make_recipe(
        {"seed": 3, "evaluation": {"doubts": 0, "curve": 9, "curve_by": "fmn", "acknowledge": ["randomness"]}}
    )
    assert identity(lasting(asked)) == identity(make_recipe({"seed": 3}))
    assert identity(lasting(make_recipe({"threads": 2}))) != identity(Recipe())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "../../x"}, "name: expected a word for a folder"),
        ({"threat": {"eps": 8}}, "did you mean 8/255"),
        ({"threat": {"eps": 1.5}}, "allows every image"),
    ],
)
def test_names_of_folders_and_radii_beyond_the_box_are_refused(values, message):
    with pytest.raises(HarpError, match=message):
        make_recipe(values)
    assert make_recipe({"threat": {"eps": 8, "norm": "1"}}).threat.eps == 8


def test_one_number_is_height_and_width():
    for given in (24, [24], ["24"], [24, 24]):
        assert make_recipe({"data": {"size": given}}).data.size == (24, 24)
    assert make_recipe({"data": {"size": [24, 40]}}).data.size == (24, 40)
    assert Recipe().data.size is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"size": 0}, r"data\.size\.0: .*greater than or equal to 1"),
        ({"size": [1, 2, 3]}, r"data\.size: .*at most 2 items"),
        ({"crop": [1, 0.5]}, "expected the smaller share first"),
        ({"crop": [0, 1]}, r"data\.crop\.0: .*greater than 0"),
        ({"crop": [0.5, 1], "pad": 2}, "pad is 2 beside crop"),
        ({"centre": 0.5}, "centre is 0.5 where no picture is resized"),
        ({"jitter": 2}, r"data\.jitter: .*less than or equal to 1"),
    ],
)
def test_settings_of_pictures_that_cannot_be_are_refused(data, message):
    with pytest.raises(HarpError, match=message):
        make_recipe({"data": data})


def test_how_pictures_are_resized_is_part_of_a_verdict_and_how_they_are_read_is_not():
    def known(**data: object) -> str:
        return identity(measured(make_recipe({"data": {"size": 24, **data}})))

    assert known(centre=0.5) != known() != known(size=32)
    assert known(stream="always", workers=2, crop=[0.1, 1], jitter=0.1) == known()
