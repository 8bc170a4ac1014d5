"""Every file of a finished run, damaged in every way, under every command: a sentence, or what is right anyway."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from harp.cli import main
from harp.errors import HarpError
from harp.runs import load_tree
from harp.stages import run_stages
from tests.tiny import TINY, workspace


def flipped(data: bytes, place: float) -> bytes:
    at = int(place * (len(data) - 1))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def other_types(data: bytes) -> bytes:
    """Every leaf of the JSON value is of another type."""

    def turned(value):
        if isinstance(value, dict):
            return {key: turned(part) for key, part in value.items()}
        if isinstance(value, list):
            return [turned(part) for part in value]
        return ["text"] if isinstance(value, int | float) else 7.5

    return json.dumps(turned(json.loads(data))).encode()


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "flipped early": lambda data: flipped(data, 0.02),
    "flipped": lambda data: flipped(data, 0.7),
    "flipped late": lambda data: flipped(data, 1),
    "null": lambda data: b"null\n",
    "list": lambda data: b"[1, 2]\n",
    "number": lambda data: b"7\n",
    "strange": lambda data: b"\xff\x00\xfe",
    "deep": lambda data: b"[" * 20_000,
}
JSON_DAMAGES = {
    "other types": other_types,
    "without values": lambda data: b"{}\n",
}

FILES = [
    "recipe.yaml",
    "data.json",
    "environment.json",
    *(
        f"{stage}/{name}"
        for stage in ("1-pretrain", "2-prune", "3-finetune")
        for name in ("done.json", "metrics.jsonl")
    ),
    *(f"{stage}/model.safetensors" for stage in ("1-pretrain", "2-prune", "3-finetune", "export")),
    *("2-prune/masks.safetensors", "2-prune/learned.safetensors", "2-prune/allocation.json"),
    *("evaluation/results.json", "evaluation/examples.safetensors", "evaluation/done.json", "evaluation/begun.json"),
    *(f"evaluation/finetuned/{name}.json" for name in ("asked", "doubts", "result")),
    *(f"evaluation/finetuned/{name}-00000.safetensors" for name in ("clean", "pgd")),
    *("export/manifest.json", "export/masks.safetensors", "export/package.safetensors", "export/done.json"),
]


def run(folder, recipe, out):
    return ["run", recipe, "--folder", folder]


def again(folder, recipe, out):
    """What was measured and exported is put together anew, from the records."""
    for name in ("evaluation/done.json", "export/done.json", "report.html"):
        (folder / name).unlink()
    return ["run", recipe, "--folder", folder]


def tune(folder, recipe, out):
    """The last training stage begins anew from the one before."""
    shutil.rmtree(folder / "3-finetune")
    return ["finetune", recipe, "--folder", folder]


def report(folder, recipe, out):
    (folder / "report.html").unlink()
    return ["report", recipe, "--folder", folder]


def evaluate(folder, recipe, out):
    return ["evaluate", folder, "--folder", out, "--images", "4", "--attacks", "fgsm", "--doubts", "0"]


def export(folder, recipe, out):
    return ["export", folder, "--out", out]


def verify(folder, recipe, out):
    return ["verify", folder / "export" / "package.safetensors"]


def inspect(folder, recipe, out):
    return ["inspect", folder / "export" / "package.safetensors"]


def compare(folder, recipe, out):
    return ["compare", folder, folder]


COMMANDS = {make.__name__: make for make in (run, again, tune, report, evaluate, export, verify, inspect, compare)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    run_stages(workspace(folder / "run"))
    return folder


def outcome(folder, tmp_path, command, name, damage, capsys):
    """How the command ends on a copy of the run with one file damaged: None, or the sentence it is refused with."""
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run", copy)
    arguments = COMMANDS[command](copy, folder / "tiny.yaml", tmp_path / "out")
    path = copy / name
    if path.exists():
        data = path.read_bytes()
        path.write_bytes({**DAMAGES, **JSON_DAMAGES}[damage](data))
    code: str | int | None = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = ended.code
    finally:
        shutil.rmtree(copy)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert code in (0, 2)
    return capsys.readouterr().err if code else None


def damages(name):
    return [*DAMAGES, *(JSON_DAMAGES if name.endswith(".json") else ())]


CASES = [
    ("run", "2-prune/done.json", "null", "done.json is damaged or of another version"),
    ("run", "evaluation/done.json", "list", "delete .*evaluation and run the same command"),
    ("run", "evaluation/results.json", "other types", "results.json was changed after it was written"),
    ("again", "data.json", "null", "data.json is damaged or of another version"),
    ("again", "3-finetune/model.safetensors", "flipped", "its content is not what was written there"),
    ("again", "2-prune/masks.safetensors", "flipped late", "its content is not what was written there"),
    ("export", "2-prune/allocation.json", "null", "allocation.json is damaged or of another version"),
    ("tune", "2-prune/model.safetensors", "flipped late", "its content is not what was written there"),
    ("report", "environment.json", "list", "environment.json is damaged or of another version"),
    ("report", "export/manifest.json", "null", "manifest.json is damaged or of another version"),
    ("report", "2-prune/allocation.json", "without values", "it lacks method"),
    ("report", "3-finetune/metrics.jsonl", "list", "metrics.jsonl is damaged or of another version"),
    ("report", "evaluation/examples.safetensors", "flipped late", "examples.safetensors was changed after"),
    ("evaluate", "export/model.safetensors", "flipped", "its content is not what was written there"),
    ("evaluate", "recipe.yaml", "null", "recipe.yaml is not a recipe"),
    ("export", "export/manifest.json", "list", "manifest.json is damaged or of another version"),
    ("again", "evaluation/begun.json", "null", "begun.json is damaged or of another version"),
    ("compare", "evaluation/results.json", "truncated", "results.json is not readable JSON"),
    ("compare", "2-prune/done.json", "list", "done.json is damaged or of another version"),
    ("verify", "export/package.safetensors", "flipped", "FAILED|failed"),
    ("inspect", "export/package.safetensors", "truncated", "package.safetensors"),
]


@pytest.mark.parametrize(("command", "name", "damage", "sentence"), CASES)
def test_damage_is_told_in_a_sentence_that_names_the_file(finished, tmp_path, capsys, command, name, damage, sentence):
    told = outcome(finished, tmp_path, command, name, damage, capsys)
    assert re.search(sentence, told)
    assert Path(name).name in told


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES)
def test_no_damage_to_any_file_ends_in_a_traceback(finished, tmp_path, capsys, command, name):
    for damage in damages(name):
        outcome(finished, tmp_path, command, name, damage, capsys)


@pytest.mark.parametrize("place", [0.001, 0.3, 0.6, 0.9999])
@pytest.mark.parametrize("name", ["3-finetune/model.safetensors", "2-prune/masks.safetensors"])
def test_files_of_weights_and_masks_are_plain_safetensors_files_under_a_digest(finished, tmp_path, name, place):
    path = finished / "run" / name
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert load_tree(path).keys() == tensors.keys()
    (tmp_path / "t").write_bytes(flipped(path.read_bytes(), place))
    with pytest.raises(HarpError, match="is not a whole safetensors file"):
        load_tree(tmp_path / "t")
    # What somebody brings has no digest, and runs of earlier versions had none.
    save_file(tensors, tmp_path / "theirs")
    assert load_tree(tmp_path / "theirs").keys() == tensors.keys()
