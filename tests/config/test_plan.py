"""A recipe's list of stages, and the settings of each."""

import pytest

from harp.config import Planned, check_plan, loses_channels, make_recipe, plan, pruning, settings_of, tuning
from harp.errors import HarpError

ROUNDS = ["pretrain", {"prune": {"keep": 0.1}}, "finetune", {"prune": {}}, {"finetune": {"epochs": 3}}]


def stages(**sections):
    recipe = make_recipe({"stages": ROUNDS, **sections})
    return recipe, plan(recipe.stages)


def test_folders_names_and_networks_follow_the_list():
    _, found = stages()
    assert [stage.folder for stage in found] == ["1-pretrain", "2-prune", "3-finetune", "4-prune", "5-finetune"]
    assert [stage.name for stage in found] == ["pretrain", "prune", "finetune", "prune-2", "finetune-2"]
    assert [stage.network for stage in found] == ["dense", "pruned", "finetuned", "pruned-2", "finetuned-2"]


def test_the_usual_list_is_that_of_a_recipe_without_one():
    assert (
        plan(make_recipe({}).stages)
        == plan()
        == tuple(Planned(kind, number, 1) for number, kind in enumerate(("pretrain", "prune", "finetune"), 1))
    )


def test_a_stages_own_settings_lie_over_its_sections():
    recipe, (_, first, tuned, second, last) = stages(prune={"keep": 0.02, "epochs": 7}, finetune={"epochs": 9})
    assert [(pruning(recipe, one).keep, pruning(recipe, one).epochs) for one in (first, second)] == [
        (0.1, 7),
        (0.02, 7),
    ]
    assert [settings_of(recipe, one).epochs for one in (tuned, last)] == [9, 3]


def test_a_sections_source_and_masks_are_of_the_first_of_its_kind():
    recipe, found = stages(prune={"source": "a.safetensors"}, finetune={"masks": "m.safetensors"})
    sources = [settings_of(recipe, stage).source for stage in found if stage.kind == "prune"]
    masks = [tuning(recipe, stage).masks for stage in found if stage.kind == "finetune"]
    assert [str(path) for path in (*sources, *masks)] == ["a.safetensors", "None", "m.safetensors", "None"]


def test_options_are_of_one_method():
    recipe = make_recipe(
        {
            "prune": {"options": {"gamma": 0.5, "mode": "exact"}},
            "stages": [{"prune": {"options": {"gamma": 2}}}, {"prune": {"method": "magnitude"}}],
        }
    )
    first, second = plan(recipe.stages)
    assert pruning(recipe, first).options == {"gamma": 2, "mode": "exact"}
    assert pruning(recipe, second).options == {}


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([], "expected at least one of pretrain, prune, finetune"),
        (["prune", "pretrain"], "2-pretrain would train the weights that 1-prune removed"),
        (["trim"], "expected one of pretrain, prune, finetune"),
        ([{"prune": {}, "finetune": {}}], "expected one of pretrain, prune, finetune"),
        ([{"prune": {"kepp": 1}}], "no setting 'stages: prune.kepp'; did you mean 'keep'"),
        ([{"prune": {"keep": 2}}], "stages: prune.keep: input should be less than or equal to 1"),
        ([{"prune": {"granularity": "filters"}}, "prune"], "granularity is one for all but channels"),
        (
            ["prune", {"prune": {"granularity": "channels"}}],
            "2-prune would remove channels of weights that were pruned",
        ),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(listed, words):
    with pytest.raises(HarpError) as refusal:
        check_plan(make_recipe({"stages": listed}))
    assert words in str(refusal.value)


def test_channels_are_removed_once():
    with pytest.raises(HarpError, match="channels are removed for good"):
        check_plan(stages(prune={"granularity": "channels"})[0])


def test_channels_may_go_before_weights():
    for listed in ([{"prune": {"granularity": "channels"}}, "prune"], [{"prune": {"granularity": "channels"}}]):
        recipe = make_recipe({"stages": listed})
        check_plan(recipe)
        assert loses_channels(recipe)
    assert not loses_channels(make_recipe({}))
    assert not loses_channels(make_recipe({"stages": ["prune"], "prune": {"granularity": "filters"}}))
    assert loses_channels(make_recipe({"stages": ["finetune"], "prune": {"granularity": "channels"}}))
