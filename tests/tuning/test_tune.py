"""A search of the tiniest runs: equal budgets, held-out images alone, killed and gone on, and what it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harp.arena import arena, read_grid
from harp.arena.grid import row_of
from harp.arena.launching import ASKED, reason_of
from harp.cli import main
from harp.cli.stages import run_command
from harp.errors import HarpError
from harp.runs import Metrics, read_json
from harp.tuning import Tuned, tune
from harp.tuning.drawing import draw
from harp.tuning.space import Range
from tests.arena.conftest import GRID, quiet

optuna = pytest.importorskip("optuna", reason="the extra tune; `make test` installs it")

SCHEMA = Path(__file__).parents[2] / "docs" / "tuning.schema.json"
SEARCH: dict[str, Any] = {
    "name": "tiny",
    "settings": {
        **GRID["settings"],
        "pretrain": {**GRID["settings"]["pretrain"], "epochs": 1},
        "prune": {**GRID["settings"]["prune"], "epochs": 2},
        "finetune": {**GRID["settings"]["finetune"], "epochs": 2},
    },
    "rows": ["hydra", {"LAMP": {"prune": {"method": "magnitude", "options": {"allocation": "lamp"}}}}],
    "space": {
        "finetune.lr": {"low": 0.001, "high": 0.1, "log": True},
        "prune.options.allocation": ["lamp", "erk", "uniform"],
    },
    "keep": 0.3,
    "trials": 3,
    "rungs": 2,
}
LR = {"finetune.lr": Range(0.001, 0.1, log=True)}


class Here:
    """A launcher in this process, which counts its cells and stops, as by a kill, after `most`."""

    def __init__(self, most=99):
        self.most, self.began = most, []

    def __call__(self, places, begin, flags=()):
        for place in places:
            if len(self.began) == self.most:
                raise KeyboardInterrupt
            self.began.append(place.name)
            begin(place, ASKED)
            try:
                run_command("run", [str(place / ASKED), "--folder", str(place), *flags])
            except HarpError as error:
                (place / "output.txt").write_text(f"harp: {error}")
                yield place, reason_of(place, 2)
            else:
                yield place, None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder, launcher = tmp_path_factory.mktemp("tuning"), Here()
    return folder, tune(SEARCH, folder, display=quiet(), launcher=launcher), launcher


def test_every_row_has_as_many_trials_of_as_many_epochs_and_the_best_go_on(finished):
    _, results, _ = finished
    assert [(rung.trials, rung.share) for rung in results.rungs] == [(3, pytest.approx(1 / 3)), (1, 1)]
    for row in ("hydra", "LAMP"):
        mine = [trial for trial in results.trials if trial.row == row]
        first, last = ([trial for trial in mine if trial.rung == rung] for rung in (0, 1))
        assert [trial.number for trial in first] == [0, 1, 2]
        assert first[0].settings == {}
        best = max(first, key=lambda trial: (trial.robust, trial.clean, -trial.number))
        assert [(trial.number, trial.settings) for trial in last] == [(best.number, best.settings)]
    assert {(one.trials, one.epochs) for one in results.best} == {(4, 3 * 2 + 4)}
    assert all(one.forwards == sum(t.forwards for t in results.trials if t.row == one.row) for one in results.best)


def test_options_are_searched_where_a_row_has_them_and_values_are_within_the_space(finished):
    _, results, _ = finished
    for trial in results.trials:
        names = {"finetune.lr"} | ({"prune.options.allocation"} if trial.row == "LAMP" else set())
        assert trial.settings.keys() == (names if trial.number else set())
        assert 0.001 <= trial.settings.get("finetune.lr", 0.1) <= 0.1


def test_no_test_image_is_looked_at_and_the_held_out_ones_judge(finished):
    folder, results, _ = finished
    assert not list(folder.glob("**/evaluation")) + list(folder.glob("**/export"))
    assert results.held_out == 32
    for trial in results.trials:
        lines = [line["validation"] for line in Metrics(folder / trial.folder / "3-finetune" / "metrics.jsonl")]
        best = max(lines, key=lambda measures: (measures["robust"], measures["clean"]))
        assert (trial.robust, trial.clean) == (best["robust"], best["clean"])


def test_results_fit_the_schema_in_the_docs(finished):
    folder, results, _ = finished
    assert json.loads(SCHEMA.read_text()) == Tuned.model_json_schema()
    assert Tuned.model_validate(read_json(folder / "tuning.json")) == results


def test_a_killed_search_goes_on_and_trains_nothing_twice(finished, tmp_path):
    _, results, _ = finished
    rate = {"finetune.lr": SEARCH["space"]["finetune.lr"]}
    search, killed, again = {**SEARCH, "rows": ["hydra"], "space": rate}, Here(3), Here()
    with pytest.raises(KeyboardInterrupt):
        tune(search, tmp_path, display=quiet(), launcher=killed)
    found = tune(search, tmp_path, display=quiet(), launcher=again)
    mine = [trial for trial in results.trials if trial.row == "hydra"]
    assert [(trial.settings, trial.robust, trial.clean) for trial in found.trials] == [
        (trial.settings, trial.robust, trial.clean) for trial in mine
    ]
    assert (len(killed.began), len(again.began)) == (3, 2)
    assert not set(killed.began) & set(again.began)


def test_what_was_best_is_a_grid_for_the_arena(finished):
    folder, results, _ = finished
    grid = read_grid(folder / "tuned.yaml")
    assert (grid.keeps, grid.seeds, grid.name) == ((0.3,), (0,), "tiny-tuned")
    best = {one.row: one.settings for one in results.best}
    rows = dict(map(row_of, grid.rows))
    assert rows["LAMP"]["prune"]["method"] == "magnitude"
    for row, settings in best.items():
        assert rows[row].get("finetune", {}).get("lr") == settings.get("finetune.lr")


def test_a_trial_that_fails_stops_no_other(tmp_path):
    """A file that is not there is found out by the run itself."""
    search = {**SEARCH, "rows": SEARCH["rows"][1:], "space": {"prune.options.allocation": ["lamp", "none.json"]}}
    found = tune({**search, "trials": 4, "rungs": 1}, tmp_path, display=quiet(), launcher=Here())
    failed = [trial for trial in found.trials if trial.reason]
    assert [trial.settings for trial in failed] == [{"prune.options.allocation": "none.json"}] * len(failed)
    assert 0 < len(failed) < 4
    assert all("none.json" in str(trial.reason) and trial.robust is None for trial in failed)
    assert found.best[0].settings in ({}, {"prune.options.allocation": "lamp"})
    with pytest.raises(HarpError, match=r"LAMP: no trial came to an end: .*smallest reachable keep"):
        tune({**search, "keep": 1e-6}, tmp_path, display=quiet(), launcher=Here())


def test_more_trials_later_keep_those_there_are(finished):
    _, results, _ = finished
    there = [trial.settings for trial in results.trials if trial.row == "hydra" and trial.rung == 0]
    assert draw(LR, range(1, 9), None, 0, "hydra", 3)[:2] == there[1:]


def test_estimators_draw_where_trials_were_good():
    told = [
        ({"finetune.lr": lr}, float(lr < 0.003))
        for lr in (0.001, 0.0015, 0.002, 0.0025, *[0.01 * n for n in range(1, 10)])
    ]
    drawn = draw(LR, range(20, 30), told, 0, "hydra", 3)
    assert drawn == draw(LR, range(20, 30), told, 0, "hydra", 3)
    assert sum(settings["finetune.lr"] < 0.005 for settings in drawn) >= 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"space": {"finetune.lrr": [1]}}, "did you mean 'finetune.lr'"),
        ({"rows": ["hydra", "hydra"]}, "two are called hydra"),
        ({"rows": ["hydar"]}, "no pruning method 'hydar'; did you mean 'hydra'"),
        ({"space": {}}, "space: "),
        ({"trials": 0}, "trials: "),
        ({"space": {"prune.options.allocation": ["lamp"]}}, "hydra has none of these settings"),
        ({"settings": {"finetune": {"selection": "last"}}}, "judged by held-out images; set selection to best"),
    ],
)
def test_a_search_that_is_none_is_refused_before_anything_runs(tmp_path, changed, said):
    with pytest.raises(HarpError) as refusal:
        tune({**SEARCH, **changed}, tmp_path, display=quiet(), launcher=Here(0))
    assert said in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_tunes_and_the_arena_judges(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    search = {**SEARCH, "trials": 4, "rungs": 1, "sampler": "tpe"}
    Path("search.yaml").write_text(yaml.safe_dump(search))
    main(["tune", "search.yaml", "--jobs", "2"])
    told = capsys.readouterr().out
    assert "best on 32 held-out images" in told
    assert "tunings/tiny/tuned.yaml" in told.replace("\n", "")
    results = arena(Path("tunings/tiny/tuned.yaml"), display=quiet())
    assert {one.row for one in results.measured} == {"hydra", "LAMP"}
