import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from harp.evaluation.tables import accuracy_table
from harp.runs import Run
from harp.seals import write_sealed
from harp.stages.evaluate import table
from harp.threats import Threat


def cell(accuracy, n=400, **more):
    return {"accuracy": accuracy, "low": accuracy - 0.04, "high": accuracy + 0.03, "n": n, **more}


def printed(table, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(table)
    return stream.getvalue()


def rows(text):
    lines = [line.strip("│┃ \n").replace("┃", "│") for line in text.splitlines() if line[:1] in "│┃"]
    return [[part.strip() for part in line.split("│")] for line in lines]


def test_models_side_by_side_with_intervals_and_one_n_below():
    models = {"dense": {"clean": cell(0.95), "worst": cell(0.5)}, "pruned": {"clean": cell(0.9), "worst": cell(0.4)}}
    text = printed(accuracy_table(models, "a title", {"weights kept": ["10 of 10", "1 of 10"]}))
    assert rows(text) == [
        ["dense", "pruned"],
        ["weights kept", "10 of 10", "1 of 10"],
        ["clean", "95.0 (91.0-98.0)", "90.0 (86.0-93.0)"],
        ["worst", "50.0 (46.0-53.0)", "40.0 (36.0-43.0)"],
    ]
    assert text.strip().startswith("a title")
    assert text.strip().endswith("n = 400")


def test_numbers_of_points_that_differ_stand_in_the_rows():
    models = {"a": {"clean": cell(0.9, 10_000), "pgd": cell(0.5, 128)}, "b": {"clean": cell(0.9, 500)}}
    text = printed(accuracy_table(models, "", {}))
    assert [row[0] for row in rows(text)[1:]] == ["clean, n = 500 or 10,000", "pgd, n = 128"]
    assert rows(text)[2][2] == "-"
    assert "n = 128\n" not in text


def test_cumulative_rows_say_so_but_clean_and_worst_are_themselves():
    models = {"a": {name: cell(0.5) for name in ("clean", "apgd-ce", "square", "worst")}}
    labels = [row[0] for row in rows(printed(accuracy_table(models, "", {}, cumulative=True)))[1:]]
    assert labels == ["clean", "after apgd-ce", "after square", "worst"]


def test_a_balanced_accuracy_follows_its_measure():
    models = {"a": {"clean": cell(0.9, balanced=cell(0.8)), "worst": cell(0.5)}, "b": {"clean": cell(0.7)}}
    assert rows(printed(accuracy_table(models, "", {})))[1:] == [
        ["clean", "90.0 (86.0-93.0)", "70.0 (66.0-73.0)"],
        ["classes alike", "80.0 (76.0-83.0)", "-"],
        ["worst", "50.0 (46.0-53.0)", "-"],
    ]


def test_nothing_is_cut_where_the_terminal_is_narrow():
    models = {name: {"clean": cell(0.9)} for name in ("dense", "pruned", "finetuned")}
    text = printed(accuracy_table(models, "", {"weights kept": ["11,173,962 of 11,173,962"] * 3}), 60)
    assert "…" not in text
    assert text.count("11,173,962") == 6


def test_a_run_shows_what_it_recorded(tmp_path):
    sizes = {"kept": 1_593, "total": 159_264, "macs": 24_429, "total_macs": 2_444_544}
    (tmp_path / "evaluation").mkdir()
    models = {"pruned": {**sizes, "clean": cell(0.9), "worst": cell(0.5)}}
    values = {"threat": {"norm": "2", "eps": 0.031}, "attacks": {}, "models": models}
    write_sealed(tmp_path / "evaluation/results.json", values, [])
    work: Any = SimpleNamespace(run=Run(tmp_path), threat=Threat(2, 0.031))
    text = printed(table(work))
    assert rows(text)[1:] == [
        ["weights kept", "1,593 of 159,264"],
        ["MACs per image", "24,429 of 2,444,544"],
        ["clean", "90.0 (86.0-93.0)"],
        ["worst", "50.0 (46.0-53.0)"],
    ]
    assert " ".join(text.split("┏")[0].split()) == "accuracy in %, with 95 % intervals; L2, eps 0.031"


def test_numbers_that_nobody_doubted_because_nobody_looked_are_told():
    told = printed(accuracy_table({"a": {"clean": cell(0.9), "worst": cell(0.5, examined=0)}}, "", {}))
    assert "not examined for false robustness" in " ".join(told.split())
