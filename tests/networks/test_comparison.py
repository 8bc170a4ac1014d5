import csv
import io
import json

import pytest

from harp.cli import main
from harp.config import make_recipe, read_recipe, write_recipe
from harp.errors import HarpError
from harp.networks.comparison import as_csv, as_html, as_latex, compare, measures_of
from harp.runs import write_json
from harp.seals import write_sealed
from tests.tiny import TINY


def cell(accuracy, **more):
    return {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "n": 60, **more}


def write_run(folder, method, seed, robust, kept=100, eps=0.1, images="f", options=None, curve=0, **more):
    values = {**TINY, "seed": seed, "prune": {"method": method, "options": options or {}}}
    values["evaluation"] = {**TINY["evaluation"], "curve": curve}
    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    (folder / "recipe.yaml").write_bytes(write_recipe(make_recipe(values)))
    write_json(folder / "data.json", {"fingerprint": images})
    row = {"kept": kept, "total": 1000, "macs": 10, "total_macs": 100}
    row |= {"clean": cell(0.9), "worst": cell(robust, **more), "pgd": cell(robust)}
    rows = {"models": {"finetuned": row}, "threat": {"norm": "inf", "eps": eps}, "attacks": {"pgd": "PGD()"}}
    (evaluation / "examples.safetensors").write_bytes(b"")
    write_sealed(evaluation / "results.json", rows, ["examples.safetensors"])
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three seeds of HARP at 0.5, 0.6 and 0.7, two of HYDRA at 0.3 and 0.5."""
    robust = {"harp": [0.5, 0.6, 0.7], "hydra": [0.3, 0.5]}
    return [
        write_run(tmp_path / f"{method}-{seed}", method, seed, value)
        for method, values in robust.items()
        for seed, value in enumerate(values)
    ]


def test_runs_that_differ_in_their_seed_are_one_line(runs):
    lines = compare(runs)
    assert [(line.label, line.seeds) for line in lines] == [
        ("method harp", (0, 1, 2)),
        ("method hydra", (0, 1)),
    ]
    assert measures_of(lines) == ["kept", "clean", "pgd", "worst"]
    assert [str(line.cells["worst"]) for line in lines] == ["60.0 ± 10.0", "40.0 ± 14.1"]
    assert str(lines[0].cells["kept"]) == "10.0 ± 0.0"


def test_runs_that_nothing_tells_apart_are_one_line(runs):
    (line,) = compare(runs[:3])
    assert (line.label, line.seeds, str(line.cells["worst"])) == ("harp-0", (0, 1, 2), "60.0 ± 10.0")


def test_what_is_asked_of_a_finished_evaluation_tells_no_runs_apart(tmp_path):
    runs = [write_run(tmp_path / f"{seed}", "harp", seed, 0.5, curve=24 * seed) for seed in (0, 1)]
    (line,) = compare(runs)
    assert line.seeds == (0, 1)


def test_an_option_that_one_group_leaves_at_its_default_tells_them_apart(runs, tmp_path):
    other = write_run(tmp_path / "other", "harp", 0, 0.9, options={"gamma": 0.5})
    lines = compare([other, *runs])
    assert [(line.label, line.seeds) for line in lines] == [
        ("method harp, gamma 0.5", (0,)),
        ("method harp, gamma default", (0, 1, 2)),
        ("method hydra", (0, 1)),
    ]


def test_one_run_is_called_by_its_folder_and_has_no_spread(runs):
    (line,) = compare(runs[:1])
    assert (line.label, str(line.cells["worst"])) == ("harp-0", "50.0")


def test_open_doubts_stand_in_the_numbers_place(tmp_path):
    (line,) = compare([write_run(tmp_path / "run", "harp", 0, 0.5, doubts=["chance"])])
    assert str(line.cells["worst"]) == "in doubt: chance"
    assert "in doubt: chance" in as_latex([line])


def test_the_csv_has_a_row_for_each_line_and_measure(runs):
    rows = list(csv.DictReader(io.StringIO(as_csv(compare(runs)))))
    assert len(rows) == 8
    row = next(row for row in rows if row["measure"] == "worst")
    assert (row["runs"], row["seeds"], row["values"]) == ("method harp", "0 1 2", "0.5 0.6 0.7")
    assert float(row["mean"]) == pytest.approx(0.6)
    assert float(row["std"]) == pytest.approx(0.1)
    assert float(row["low"]) == pytest.approx(0.6 - 4.302653 * 0.1 / 3**0.5, abs=1e-6)


def test_the_latex_is_a_tabular(runs):
    lines = as_latex(compare(runs)).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrr}"
    assert lines[2] == r" & kept & clean & pgd & worst \\"
    assert lines[4] == r"method harp & $10.0 \pm 0.0$ & $90.0 \pm 0.0$ & $60.0 \pm 10.0$ & $60.0 \pm 10.0$ \\"
    assert lines[-1] == r"\end{tabular}"


def test_names_are_escaped_in_latex(tmp_path):
    (line,) = compare([write_run(tmp_path / "a_50%", "harp", 0, 0.5)])
    assert r"a\_50\% & " in as_latex([line])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"eps": 0.2}, "other threat or attacks"),
        ({"images": "g"}, "other images"),
        ({"seed": 0}, "seed 0 is there twice"),
    ],
)
def test_what_does_not_compare_is_refused(runs, tmp_path, more, words):
    other = write_run(tmp_path / "other", "harp", **{"seed": 9, "robust": 0.5, **more})
    with pytest.raises(HarpError, match=words):
        compare([*runs, other])


def test_a_folder_without_an_evaluation_or_the_network_is_refused(runs, tmp_path):
    with pytest.raises(HarpError, match="holds no finished evaluation"):
        compare([tmp_path])
    with pytest.raises(HarpError, match="has no network 'dense'; it has: finetuned"):
        compare(runs, "dense")


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
    out = [tmp_path / f"t.{kind}" for kind in ("csv", "tex", "html")]
    main(["compare", *map(str, runs), *(f"--out={path}" for path in out)])
    told = capsys.readouterr().out
    assert "60.0 ± 10.0" in told
    assert all(path.read_text() for path in out)
    with pytest.raises(SystemExit):
        main(["compare", *map(str, runs), "--out", "t.xls"])
    assert json.dumps("expected a name that ends in .csv, .tex or .html")[1:-1] in capsys.readouterr().err


def test_the_page_has_the_lines_best_first_and_a_point_for_what_is_not_in_doubt(runs, tmp_path):
    runs.append(write_run(tmp_path / "zero-<b>", "magnitude", 0, 0.8, doubts=["noisy"]))
    html = as_html(compare(runs), runs[0])
    assert "L∞, eps = 0.1" in html
    assert "Of 60 test images" in html
    places = [html.index(text) for text in ("60.0 ± 10.0", "40.0 ± 14.1", "in doubt: noisy")]
    assert places == sorted(places)
    assert "http" not in html
    assert "<b>" not in html


def test_settings_of_stages_that_were_not_run_tell_nothing(tmp_path):
    whole = write_run(tmp_path / "whole", "harp", 0, 0.5)
    part = write_run(tmp_path / "part", "harp", 0, 0.6)
    recipe = make_recipe({**read_recipe(part / "recipe.yaml"), "stages": ["prune", "finetune"]})
    values = recipe.model_dump(mode="json")
    values["pretrain"] |= {"epochs": 77}
    (part / "recipe.yaml").write_bytes(write_recipe(make_recipe(values)))
    labels = [line.label for line in compare([whole, part])]
    assert labels == ["stages ['pretrain', 'prune', 'finetune']", "stages ['prune', 'finetune']"]
