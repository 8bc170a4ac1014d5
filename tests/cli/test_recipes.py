import pytest

from harp.cli import main
from harp.cli.recipes import asked
from harp.config import Recipe, find_recipe, make_recipe, read_recipe

DIGITS = make_recipe(read_recipe(find_recipe("digits")))


def recipe(*arguments):
    return make_recipe(asked("run", list(arguments)).values)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--data.name", "digits"), ("--model.name", "digits_cnn", "--data.name", "digits")],
)
def test_without_a_name_its_own_images_and_network_have_the_tuned_recipe(arguments):
    assert recipe(*arguments) == DIGITS
    assert asked("run", list(arguments)).chosen == "no recipe is named: digits"


def test_settings_alone_leave_the_tuned_recipe_below():
    found = recipe("--data.train", "100", "--model.width", "0.5", "--prune.keep", "0.1")
    assert (found.threat.eps, found.data.train, found.model.width, found.prune.keep) == (0.1, 100, 0.5, 0.1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--data.name", "folder"), "data set"),
        (("--data.path", "data set"), "data set"),
        (("--model.name", "net.py:make"), "network"),
        (("--data.name", "cifar10", "--model.name", "resnet18"), "data set and network"),
    ],
)
def test_without_a_name_other_images_or_networks_have_the_papers_defaults(arguments, what):
    found = recipe(*arguments)
    default = Recipe()
    assert (found.threat, found.pretrain, found.prune, found.finetune) == (
        default.threat,
        default.pretrain,
        default.prune,
        default.finetune,
    )
    said = f"no recipe is named, and digits is tuned to another {what}: the paper's defaults"
    assert asked("run", list(arguments)).chosen == said


def test_a_named_recipe_stays_what_it_is():
    assert recipe("digits", "--data.name", "cifar10").threat.eps == 0.1
    assert asked("run", ["digits"]).chosen == ""


def test_the_first_line_says_which_recipe_was_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["prune", "--model.name", "cifar_cnn", "--data.name", "digits"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "no recipe is named, and digits is tuned to another network: the paper's defaults; L-inf, eps 8/255"
    )
