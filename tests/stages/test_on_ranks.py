"""A run on several ranks: the files of one, equal on all, through kills and with other numbers of processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from harp.objectives import OBJECTIVES, has_teacher
from harp.pruners import METHODS
from harp.runs import read_json
from harp.stages import STAGES, run_stages
from tests.ranked import ranked
from tests.stages.test_runner import CHANNELS, OF_CHANNELS, OF_WEIGHTS
from tests.tiny import TINY, results, workspace

MEASURED = [name for name in STAGES if name != "report"]
TRAINED = ["pretrain", "prune", "finetune"]

TAUGHT = ("ard", "rslad", "adaad")


def run(ranks, folder, *all_sections, names=MEASURED):
    for number, sections in enumerate(all_sections):
        run_stages(workspace(folder / str(number), **sections), names)


def train(ranks, folder, *all_sections):
    run(ranks, folder, *all_sections, names=TRAINED)


def accuracies(folder):
    models = read_json(folder / "evaluation" / "results.json")["models"]
    return {
        name: {key: cell["accuracy"] for key, cell in row.items() if isinstance(cell, dict)}
        for name, row in models.items()
    }


def test_two_ranks_make_the_run_that_one_makes(tmp_path):
    (tmp_path / "two").mkdir()
    ranked(2, run, tmp_path, tmp_path / "two", {})
    run(None, tmp_path / "one", {})
    assert accuracies(tmp_path / "two" / "0") == accuracies(tmp_path / "one" / "0")
    for stage in ("1-pretrain", "2-prune", "3-finetune"):
        ours, theirs = (load_file(tmp_path / name / "0" / stage / "model.safetensors") for name in ("two", "one"))
        for name, value in theirs.items():
            assert torch.allclose(ours[name].float(), value.float(), atol=1e-3), (stage, name)
    assert read_json(tmp_path / "two" / "0" / "2-prune" / "done.json")["environment"]["ranks"] == 2


@pytest.mark.slow
def test_what_one_process_began_two_go_on_with(tmp_path):
    run_stages(workspace(tmp_path / "0"), ["pretrain"])
    before = results(tmp_path / "0")
    ranked(2, run, tmp_path, tmp_path, {})
    assert (tmp_path / "0" / "export" / "done.json").exists()
    assert {name: value for name, value in results(tmp_path / "0").items() if name in before} == before


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some twenty runs, by more processes than there are cores
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("granularity", ["weights", "channels"])
def test_every_method_holds_the_same_on_all_ranks(tmp_path, size, granularity):
    # Each rank's network, pruner and optimizer are compared before every checkpoint, bit for bit.
    without = OF_CHANNELS if granularity == "weights" else OF_WEIGHTS
    cut = {} if granularity == "weights" else CHANNELS
    sections = [{"prune": {"method": method, **cut}} for method in METHODS if method not in without]
    ranked(size, train, tmp_path, tmp_path, *sections)
    assert all((tmp_path / str(number) / "3-finetune" / "done.json").exists() for number in range(len(sections)))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some twenty runs, by more processes than there are cores
@pytest.mark.parametrize("size", [2, 4])
def test_every_objective_holds_the_same_on_all_ranks(tmp_path, size):
    names = [name for name in OBJECTIVES if not has_teacher(OBJECTIVES[name])]
    sections: list[dict[str, dict[str, object]]] = [
        {stage: {"objective": name, "awp": awp} for stage in ("pretrain", "prune", "finetune")}
        for name in names
        for awp in (0.0, 0.01)
    ]
    sections += [{"prune": {"objective": "pwoa", "attacked": 0.5}, "finetune": {"objective": "pwoa"}}]
    for name in TAUGHT:
        sections.append({"prune": {"objective": name}, "finetune": {"objective": name}})
    sections += [{stage: {"average": 0.5, "renew_norms": 2, "cutmix": 0.5} for stage in ("pretrain", "finetune")}]
    ranked(size, train, tmp_path, tmp_path, *sections)
    assert all((tmp_path / str(number) / "3-finetune" / "done.json").exists() for number in range(len(sections)))


def torchrun(recipe, folder, *, nodes=1, port=0, more=()):
    words = ["torchrun", "--nproc-per-node", str(2 // nodes), "--max-restarts", "60", *more, "-m", "harp", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", *words[1:], str(recipe), "--folder", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def ranks_of(process):
    """The processes that torchrun started."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if entry.isdigit() and int(file.read().rpartition(")")[2].split()[1]) == process.pid:
                    found.append(int(entry))
        except (OSError, ValueError):
            continue
    return sorted(found)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    sections = {name: {**TINY[name], "checkpoint_every": "1it"} for name in ("pretrain", "prune", "finetune")}
    path.write_text(json.dumps({**TINY, **sections, "threads": 1}))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert torchrun(recipe, folder).wait() == 0
    return results(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3])
def test_a_rank_that_is_killed_changes_nothing(recipe, undisturbed, tmp_path, kills):
    draws = torch.Generator().manual_seed(kills)
    process, done = torchrun(recipe, tmp_path / "run"), 0
    while process.poll() is None and done < kills:
        time.sleep(3 + 6 * float(torch.rand((), generator=draws)))
        if victims := ranks_of(process):
            os.kill(victims[int(torch.randint(len(victims), (), generator=draws))], signal.SIGKILL)
            done += 1
    assert process.wait() == 0
    assert done == kills
    assert results(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_two_nodes_make_the_run_of_one(recipe, undisturbed, tmp_path):
    more = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:29655", "--rdzv-id", "two")
    nodes = [torchrun(recipe, tmp_path / "run", nodes=2, more=more) for _ in range(2)]
    assert [node.wait() for node in nodes] == [0, 0]
    assert results(tmp_path / "run") == undisturbed
