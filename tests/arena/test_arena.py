"""An arena of the tiniest runs: whole, killed, poisoned; and what it writes."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from harp.arena import Results, arena
from harp.arena.latency import latency_of
from harp.arena.pages import lines, measures_of
from harp.arena.results import RESULTS
from harp.cli import main
from harp.config import make_recipe
from harp.pipeline.kept import made_alike
from harp.runs import Run
from tests.arena.conftest import GRID, quiet

SCHEMA = Path(__file__).parents[2] / "docs" / "arena.schema.json"


def test_what_is_ranked_was_measured_and_a_poisoned_cell_stops_no_other(finished):
    _, results = finished
    assert {one.row for one in results.measured} == {"hydra", "magnitude"}
    assert [one.rank for one in results.ranking] == [1, 2]
    assert results.ranking[0].robust >= results.ranking[1].robust
    (failure,) = results.failed
    assert (failure.row, results.unfinished) == ("bad", 0)
    assert failure.reason.startswith("no setting 'prune.options.gama'; did you mean 'gamma'?")


def test_the_command_ends_with_an_error_where_a_cell_failed(finished, tmp_path, capsys):
    folder, _ = finished
    grid = tmp_path / "tiny.yaml"
    grid.write_text(yaml.safe_dump(GRID))
    with pytest.raises(SystemExit) as end:
        main(["arena", str(grid), "--folder", str(folder)])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert "failed: bad at 0.3, seed 0: no setting 'prune.options.gama'" in said.out
    assert "harp: 1 failed, for the reasons above" in said.err


def test_kept_weights_are_counted_in_the_file_and_meet_the_budget(finished):
    folder, results = finished
    for one in results.measured:
        tensors = load_file(folder / one.folder / "export" / "model.safetensors")
        masks = load_file(folder / one.folder / "2-prune" / "masks.safetensors")
        assert one.kept == sum(int((tensors[name] != 0).sum()) for name in masks)
        assert one.kept <= one.budget == round(0.3 * one.total)


def test_all_cells_start_from_one_dense_network(finished):
    folder, results = finished
    recipes = [make_recipe(json.loads(json.dumps(_recipe(folder / one.folder)))) for one in results.measured]
    assert {recipe.prune.source for recipe in recipes} == {folder / "dense-seed0" / "1-pretrain" / "model.safetensors"}


def _recipe(folder):
    import yaml

    return yaml.safe_load((folder / "recipe.yaml").read_text())


def test_the_results_fit_the_schema_in_the_docs(finished):
    folder, results = finished
    schema = json.loads(SCHEMA.read_text())
    assert schema == Results.model_json_schema()
    written = json.loads((folder / RESULTS).read_text())
    assert Results.model_validate(written) == results


def test_pages_tell_all_of_it(finished):
    folder, _ = finished
    for name in ("arena.html", "arena.md", "arena.tex"):
        text = (folder / name).read_text()
        assert "hydra" in text
        assert "magnitude" in text
    assert "did you mean" in (folder / "arena.md").read_text()
    assert (folder / "results.csv").read_text().count("\n") == 3
    assert (folder / "arena.svg").exists()


def test_the_dense_network_is_measured_once_and_stands_beside_all(finished):
    folder, results = finished
    (dense,) = results.dense
    for measures in (dense.accuracies, *(one.accuracies for one in results.measured)):
        assert {*measures} == {"clean", "fgsm", "worst"}
    assert {path.parent.name for path in folder.glob("cells/*/evaluation/*/result.json")} == {"finetuned"}
    assert "| - | dense | 1 |" in (folder / "arena.md").read_text()


def test_packages_are_timed_beside_the_dense_one_and_only_once(finished):
    folder, results = finished
    assert {one.latency.low <= one.latency.times_faster <= one.latency.high for one in results.measured} == {True}
    place, dense = folder / results.measured[0].folder, folder / "dense-seed0"
    assert latency_of(place, dense) == results.measured[0].latency
    assert latency_of(place, place) is None  # that is beside another network


def test_where_classes_are_unequal_they_are_also_counted_alike(finished):
    _, results = finished
    assert measures_of(results) == ["clean", "fgsm", "worst"]
    told = results.model_dump()
    for one in (*told["dense"], *told["measured"]):
        one["accuracies"]["worst"]["balanced"] = 0.125
    uneven = Results.model_validate(told)
    assert measures_of(uneven) == ["clean", "fgsm", "worst", "clean, classes alike", "worst, classes alike"]
    assert {line.measures[3:] for line in lines(uneven, 0.3)} == {("-", "12.5")}


@pytest.mark.slow
def test_pages_are_there_after_every_cell(tmp_path, monkeypatch):
    unfinished = []
    told = lambda results, folder: unfinished.append(results.unfinished)  # noqa: E731
    monkeypatch.setattr(sys.modules["harp.arena.arena"], "write_results", told)
    arena({**GRID, "rows": ["magnitude", "hydra"]}, tmp_path, display=quiet())
    assert unfinished == [1, 0, 0]


def test_finished_cells_are_not_run_again(finished):
    folder, before = finished
    times = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/done.json")}
    again = arena(GRID, folder, display=quiet())
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/done.json")} == times
    assert again.measured == before.measured


def test_what_another_recipe_would_make_of_a_run_is_as_much_as_they_have_in_common(finished):
    folder, _ = finished
    run = Run(folder / "cells" / "hydra-0.3-seed0")
    asked = _recipe(run.folder)

    def alike(**sections):
        return made_alike(run, make_recipe({**asked, **sections}))

    assert alike(name="another") == ["2-prune", "3-finetune"]
    assert alike(finetune={**asked["finetune"], "lr": 0.001}) == ["2-prune"]
    assert alike(prune={**asked["prune"], "lr": 0.2}) == alike(seed=1) == alike(threat={"eps": 0.2}) == []
    assert made_alike(Run(folder / "cells" / "nobody"), make_recipe(asked)) == []


def test_rows_that_begin_alike_share_what_they_have_in_common(finished, tmp_path):
    folder, whole = finished
    slower = {"slower": {"prune": {"method": "hydra"}, "finetune": {"lr": 0.001}}}
    for part in ("dense-seed0", "cells/hydra-0.3-seed0"):
        shutil.copytree(folder / part, tmp_path / part)
    recipe = tmp_path / "dense-seed0" / "1-pretrain" / "model.safetensors"
    for file in (tmp_path / "cells").glob("*/**/*"):  # the dense network lies elsewhere now
        if file.suffix in (".yaml", ".json"):
            file.write_text(file.read_text().replace(str(folder / recipe.relative_to(tmp_path)), str(recipe)))
    begun = time.time()
    results = arena({**GRID, "rows": ["hydra", slower]}, tmp_path, display=quiet())
    places = {one.row: tmp_path / one.folder for one in results.measured}
    told = {row: json.loads((place / "2-prune" / "done.json").read_text()) for row, place in places.items()}
    assert told["slower"] == {**told["hydra"], "recipe": {**told["hydra"]["recipe"], "name": "slower"}}
    scores, networks = (
        [(places[row] / name).read_bytes() for row in ("hydra", "slower")]
        for name in ("2-prune/learned.safetensors", "3-finetune/model.safetensors")
    )
    assert scores[0] == scores[1]
    assert networks[0] != networks[1]
    assert not any(file.stat().st_mtime > begun for file in places["hydra"].glob("*/model.safetensors"))
    alone, again = (next(one for one in of.measured if one.row == "hydra") for of in (whole, results))
    assert again.accuracies == alone.accuracies


@pytest.mark.slow
def test_a_killed_arena_goes_on_and_ends_as_one_that_was_not(finished, tmp_path):
    _, whole = finished
    grid = tmp_path / "grid.yaml"
    grid.write_text(json.dumps(GRID))
    words = [sys.executable, "-m", "harp", "arena", str(grid), "--folder", str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("cells/*/2-prune")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    results = arena(GRID, tmp_path / "out", display=quiet())
    assert [(one.row, one.accuracies, one.shares) for one in results.measured] == [
        (one.row, one.accuracies, one.shares) for one in whole.measured
    ]
