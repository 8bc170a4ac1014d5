import json
from typing import Any

import pytest

from harp.errors import HarpError
from harp.pipeline.begun import begin_stage, begun_with, moved
from harp.pipeline.kept import check_kept, settings_in
from harp.runs import Run, write_json
from tests.tiny import tiny, workspace


def begun(folder, *environments, stage="2-prune", files=(), **sections):
    """What the stage was begun with in each of these environments in turn, over the usual one."""
    work: Any = workspace(folder, **sections)
    usual = work.environment()
    for number, environment in enumerate(environments or [{}]):
        work.environment = lambda environment=environment: {**usual, **environment}
        found = begin_stage(work, stage, files, resumed=number > 0)
    write_json(folder / "environment.json", usual)
    return work.run, found


def test_each_environment_of_a_stage_is_noted_once(tmp_path):
    run, found = begun(tmp_path, {}, {"threads": 99, "torch": "9.9"}, {}, {"ranks": 2}, {"ranks": 2})
    assert len(found.environments) == 3
    first, second = moved(run, found)
    assert first.startswith("it ran under torch 9.9, threads 99, and the run began under torch ")
    assert second == "it ran under ranks 2, and the run began under ranks 1: sums may round otherwise there"


def test_what_rounds_nothing_is_not_noted(tmp_path):
    run, found = begun(tmp_path, {"commit": "other", "platform": "other", "python": "4"})
    assert moved(run, found) == []


def test_environments_of_earlier_versions_are_compared_in_what_they_have(tmp_path):
    run, found = begun(tmp_path, {"threads": 99})
    write_json(tmp_path / "environment.json", {"torch": "9.9"})
    assert [note.partition(",")[0] for note in moved(run, found)] == [
        f"it ran under torch {found.environments[0]['torch']}"
    ]
    (tmp_path / "environment.json").unlink()
    assert moved(run, found) == []


def test_a_stage_that_begins_anew_forgets_where_it_ran_before(tmp_path):
    begun(tmp_path, {"threads": 99})
    run, found = begun(tmp_path, {})
    assert len(found.environments) == 1
    assert begun_with(run, "2-prune") == found


def test_what_a_stage_was_begun_with_counts_where_the_folders_recipe_is_gone(tmp_path):
    run, _ = begun(tmp_path, prune={"keep": 0.1})
    check_kept(run, tiny(prune={"keep": 0.1}))
    check_kept(run, tiny(prune={"keep": 0.1}, finetune={"lr": 0.5}, evaluation={"steps": 9}))
    for change in ({"prune": {"keep": 0.2}}, {"pretrain": {"lr": 0.5}}, {"threat": {"eps": 0.2}}, {"seed": 7}):
        with pytest.raises(HarpError, match=rf"2-prune was begun with another setting of {next(iter(change))}: "):
            check_kept(run, tiny(**change))


@pytest.mark.parametrize("done", [True, False])
def test_a_recipe_edited_in_the_folder_is_refused_where_a_stage_depends_on_it(tmp_path, done):
    run, found = begun(tmp_path, prune={"keep": 0.1})
    if done:
        run.finish("2-prune", found.told())
        (tmp_path / "2-prune" / "begun.json").unlink()
    path = tmp_path / "recipe.yaml"

    def edited(**sections):
        path.write_text(json.dumps(tiny(**sections).model_dump(mode="json")))  # JSON is YAML

    edited(prune={"keep": 0.1}, finetune={"lr": 0.5})
    assert settings_in(path)["finetune"]["lr"] == 0.5
    edited(prune={"keep": 0.2})
    with pytest.raises(HarpError, match=r"recipe.yaml was edited: .*2-prune was made with .* as prune, and it says"):
        settings_in(path)
    assert settings_in(path, ["data", "model"]).keys() == {"data", "model"}


def test_markers_of_earlier_versions_say_nothing_and_are_taken(tmp_path):
    run = Run(tmp_path)
    run.finish("2-prune", {"notes": [], "seconds": 1.0})
    assert begun_with(run, "2-prune") is None
    check_kept(run, tiny(seed=7))


@pytest.mark.parametrize("recipe", [{"no": "setting"}, {"seed": "text"}])
def test_a_damaged_recipe_in_a_marker_is_told(tmp_path, recipe):
    run = Run(tmp_path)
    run.finish("2-prune", {"recipe": recipe})
    with pytest.raises(HarpError, match=r"done.json is no recipe of this version: "):
        check_kept(run, tiny())


def test_a_file_from_elsewhere_that_changed_is_refused(tmp_path):
    source = tmp_path / "dense.safetensors"
    source.write_bytes(b"weights")
    run, found = begun(tmp_path / "run", files=[source, tmp_path / "none"], prune={"source": str(source)})
    assert [*found.files] == [str(source)]
    recipe = tiny(prune={"source": str(source)})
    check_kept(run, recipe)
    source.write_bytes(b"weighty")
    with pytest.raises(
        HarpError, match=r"dense.safetensors is not the file that .*2-prune was begun with; bring it back"
    ):
        check_kept(run, recipe)
    source.unlink()
    check_kept(run, recipe)
