"""Cells as jobs, through submitit's executor for this machine; one is preempted, as a cluster would do it."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harp.arena import Submitted, arena
from harp.arena.launching import ASKED, OUTPUT
from harp.arena.slurm import QUEUED, Job
from harp.cli import main
from harp.errors import HarpError
from tests.arena.conftest import GRID, quiet
from tests.arena.test_launching import models, told

submitit = pytest.importorskip("submitit", reason="the extra slurm; `make test` installs it")


def preempt(folder, stop):
    """Once a cell searches, its job gets the signal by which a cluster takes its place away."""
    while not stop.is_set():
        for search in folder.glob("cells/hydra*/2-prune"):
            place = str(search.parent).encode()
            for path in folder.glob("jobs/*_submitted.pkl"):
                if place in path.read_bytes():
                    os.kill(task_of(path.name.split("_")[0]), signal.SIGUSR2)
                    return
        time.sleep(0.02)


def task_of(job):
    """The process that submitit runs for a job of this machine."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, environment = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            if b"submitit.core._submit" in words and f"SUBMITIT_LOCAL_JOB_ID={job}".encode() in environment:
                return int(process.name)
    raise AssertionError(f"no process of job {job}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="a job's process is found in Linux's /proc")
def test_jobs_come_to_the_same_also_when_one_is_preempted(finished, tmp_path, monkeypatch):
    folder, results = finished
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stop = threading.Event()
    killer = threading.Thread(target=preempt, args=(tmp_path, stop))
    killer.start()
    try:
        found = arena(GRID, tmp_path, display=quiet(), launcher=Submitted(tmp_path, cluster="local", every=0.2))
    finally:
        stop.set()
        killer.join()
    logs = "".join(path.read_text() for path in tmp_path.glob("jobs/*_log.*"))
    assert logs.count("Calling checkpoint method") == 1
    assert told(found) == told(results)
    assert [one.reason for one in found.failed] == [one.reason for one in results.failed]
    assert models(tmp_path) == models(folder)
    assert not list(tmp_path.glob(f"cells/*/{QUEUED}"))


def test_what_is_pickled_is_a_job_without_a_state_and_strings(tmp_path):
    job = Job()
    (tmp_path / QUEUED).write_text("new")
    (tmp_path / ASKED).write_text("old")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert job(str(tmp_path), sys.executable, "-c", "print('said'); raise SystemExit(3)") == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / ASKED).read_text() == "new"
    assert (tmp_path / OUTPUT).read_text() == "said\n"
    again = job.checkpoint(str(tmp_path), "a", "b")
    assert again.args == (str(tmp_path), "a", "b")
    assert pickle.loads(pickle.dumps(again.function)).__dict__ == {}  # noqa: S301  made here


def test_at_a_checkpoint_the_process_has_ended(tmp_path):
    job = Job()
    job._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    job.checkpoint(str(tmp_path))
    assert job._process.wait(1) == -signal.SIGTERM


def test_a_job_that_dies_is_told_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["harp.arena.slurm"], "words_of", lambda place, flags: ["no-such-command"])
    place = tmp_path / "cell"
    place.mkdir()
    ends = Submitted(tmp_path, cluster="local", every=0.1)([place], lambda place, name: None)
    ((where, reason),) = ends
    assert where == place
    assert reason is not None
    assert "no-such-command" in reason


def test_several_ranks_share_a_cell_by_torchrun(tmp_path):
    words = Submitted(tmp_path, ranks=2, cluster="local")._words(tmp_path)
    assert words[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert words[6:9] == ["-m", "harp", "run"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"partitio": "gpu"}, "--slurm: .*Unknown argument 'partitio'"),
        ({"nodes": "2"}, "--slurm nodes: a cell is one task of one node"),
        ({"cpus_per_task": "many"}, "--slurm: Parameter .*cpus_per_task"),
    ],
)
def test_parameters_that_there_are_not(tmp_path, given, said):
    with pytest.raises(HarpError, match=said):
        Submitted(tmp_path, given, cluster="local")


def test_parameters_are_slurms_own_or_those_of_all_clusters(tmp_path):
    given = {"partition": "gpu", "time": "60", "mem_gb": "1.5", "exclusive": "true"}
    debug = Submitted(tmp_path, given, jobs=3, cluster="local")
    assert debug._executor.parameters.get("mem_gb", 1.5) == 1.5
    from harp.arena.slurm import _parameters

    known = {"slurm_partition": "gpu", "slurm_time": 60, "mem_gb": 1.5, "slurm_exclusive": True}
    assert _parameters(given, 3) == {**known, "slurm_array_parallelism": 3}
    assert _parameters({}, None) == {"timeout_min": 1440}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slurm", "partition=a"], "--slurm is for --launcher slurm"),
        (["--launcher", "local", "--ranks", "2"], "--ranks is for --launcher slurm"),
        (["--launcher", "slurm", "--slurm", "partition"], "--slurm partition: expected KEY=VALUE"),
        (["--launcher", "slurm", "--ranks", "0"], "--ranks 0: expected a whole number of at least 1"),
        (["--launcher", "slurm"], "--launcher slurm: "),
    ],
)
def test_what_the_command_refuses(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no Slurm on this machine
    (tmp_path / "grid.yaml").write_text("rows: [magnitude]\n")
    with pytest.raises(SystemExit):
        main(["arena", "grid.yaml", *arguments])
    assert said in capsys.readouterr().err
    with suppress(FileNotFoundError):
        assert not list((tmp_path / "arenas").glob("*/cells"))
