"""What a run's folder names is run or fetched only where this user did that before, by naming it."""

import re

import pytest

from harp.boards import mark
from harp.config import make_recipe
from harp.consent import is_known, remember
from harp.errors import HarpError
from harp.networks.trust import check_named, reaching
from harp.own import code_marks, load_own, load_plugin

NET = "from torch import nn\n\ndef make(classes):\n    return nn.Flatten()\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def named(**sections):
    return make_recipe({"model": {"name": "digits_cnn"}, **sections})


def found(recipe, **own):
    return list(reaching(recipe, own))


@pytest.mark.parametrize(
    ("sections", "name", "what"),
    [
        ({"model": {"name": "net.py:make"}}, "net.py:make", "code"),
        ({"model": {"name": "hf:somebody/net"}}, "hf:somebody/net", "hub"),
        ({"data": {"name": "net.py:images"}}, "net.py:images", "code"),
        ({"data": {"name": "hub:somebody/images@main"}}, "hub:somebody/images@main", "hub"),
        ({"prune": {"method": "net.py:Method"}}, "net.py:Method", "code"),
        ({"prune": {"options": {"start": "net.py:shares"}}}, "net.py:shares", "code"),
        ({"finetune": {"objective": "net.py:Loss"}}, "net.py:Loss", "code"),
        ({"stages": ["pretrain", {"prune": {"method": "net.py:Method"}}]}, "net.py:Method", "code"),
        ({"evaluation": {"attacks": ["fgsm", "net.py:Attack"]}}, "net.py:Attack", "code"),
        ({"plugins": ["net.py"]}, "net.py", "code"),
        ({"plugins": ["json.tool"]}, "json.tool", "code"),
        ({"boards": ["tensorboard", "wandb"]}, "wandb", "board"),
    ],
)
def test_whatever_in_a_recipe_would_run_or_ask_the_network_is_found(here, sections, name, what):
    recipe = named(**sections)
    assert found(recipe) == [(name, what)]
    assert found(recipe, anywhere={"deep": [f"fgsm, {name}"]}) == []
    with pytest.raises(
        HarpError, match=rf"^there names {re.escape(name)}, (code that you|on a hub and|which sends) .*--trust"
    ):
        check_named(recipe, here.relative_to(here) / "there", {}, "--trust")
    check_named(recipe, None, {}, "--trust")
    check_named(recipe, here, {}, None)


def test_what_is_gone_or_lies_in_a_folder_here_reaches_nothing(here):
    assert found(named(model={"name": "gone.py:make"})) == []
    assert found(named(model={"name": f"hf:{here}"})) == []
    assert found(named(data={"path": "somewhere/else"}, prune={"source": "weights.safetensors"})) == []


def test_code_that_ran_by_its_name_may_run_again_until_it_changes_or_moves(here):
    recipe = named(model={"name": "net.py:make"})
    load_own("net.py:make", "model")
    check_named(recipe, here, {}, "--trust")
    (here / "net.py").write_text(f"# the same, annotated\n{NET}")
    check_named(recipe, here, {}, "--trust")
    (here / "beside.py").write_text("VALUE = 1\n")
    (here / "net.py").write_text(f"{NET}\nimport beside\n")
    load_own("net.py:make", "model")
    check_named(recipe, here, {}, "--trust")
    (here / "beside.py").write_text("VALUE = 2\n")
    with pytest.raises(HarpError, match=r"net\.py:make, code that you have not run before"):
        check_named(recipe, here, {}, "--trust")
    (here / "other").mkdir()
    (here / "other" / "net.py").write_text(NET)
    with pytest.raises(HarpError, match=r"other/net\.py:make, code that you have not run before"):
        check_named(named(model={"name": "other/net.py:make"}), here, {}, "--trust")


def test_so_may_a_module_that_was_a_plugin(here):
    assert not any(map(is_known, code_marks("json.tool")))
    load_plugin("json.tool")
    check_named(named(plugins=["json.tool"]), here, {}, "--trust")
    with pytest.raises(HarpError, match=r"names json\.decoder, code"):
        check_named(named(plugins=["json.decoder"]), here, {}, "--trust")
    with pytest.raises(HarpError, match=r"names no\.such, code"):
        check_named(named(plugins=["no.such"]), here, {}, "--trust")


def test_a_name_that_looks_like_a_hub_and_is_a_file_is_code(here):
    recipe = named(model={"name": "hf:net.py:make"})
    (here / "hf:net.py").write_text(NET)
    remember(["hf:net.py:make"])
    with pytest.raises(HarpError, match=r"hf:net\.py:make, code"):
        check_named(recipe, here, {}, "--trust")


def test_what_was_fetched_by_its_name_may_be_fetched_again(here):
    remember(["hub:somebody/images"])
    check_named(named(data={"name": "hub:somebody/images"}), here, {}, "--trust")


def test_a_board_that_has_metrics_of_this_user_may_be_told_more(here):
    remember([mark("wandb")])
    check_named(named(boards=["wandb"]), here, {}, "--trust")
    with pytest.raises(HarpError, match=r"names mlflow, which sends metrics"):
        check_named(named(boards=["wandb", "mlflow"]), here, {}, "--trust")
