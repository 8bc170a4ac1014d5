"""The table of results: a row for each measure, and more where classes are unequal or only one network was measured."""

from harp.config import make_recipe, write_recipe
from harp.report.reading import read_record
from harp.report.table import rows
from harp.runs import load_tree, read_json, save_tree
from harp.seals import write_sealed
from tests.report.conftest import RECIPE


def edited(folder, change):
    path = folder / "evaluation/results.json"
    values = {name: value for name, value in read_json(path).items() if name != "seal"}
    change(values["models"])
    write_sealed(path, values, ["examples.safetensors"])
    return read_record(folder)


def test_unequal_classes_are_also_counted_alike_below_each_measure(folder):
    def balance(models):
        for row in models.values():
            row["clean"]["balanced"] = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": row["clean"]["n"]}

    before = [row.heading for row in rows(read_record(folder))]
    assert not any("alike" in heading for heading in before)
    found = rows(edited(folder, balance))
    place = before.index("clean images") + 1
    assert [row.heading for row in found] == [*before[:place], "clean images, classes alike", *before[place:]]
    assert set(found[place].cells) == {"50.0 (40.0-60.0)"}


def test_a_run_that_measured_its_last_network_alone_has_one_column(folder):
    def only_last(models):
        for name in list(models)[:-1]:
            del models[name]

    examples = folder / "evaluation/examples.safetensors"
    tree = load_tree(examples)
    kinds = {kind: {"finetuned": tree[kind]["finetuned"]} for kind in ("adversarial", "predictions")}
    save_tree(examples, {**tree, **kinds})
    (folder / "recipe.yaml").write_bytes(write_recipe(make_recipe({**RECIPE, "evaluation": {"networks": "last"}})))
    record = edited(folder, only_last)
    assert [*record.evaluation.models] == ["finetuned"]
    assert {len(row.cells) for row in rows(record)} == {1}
