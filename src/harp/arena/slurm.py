"""The cells of an arena as jobs of a cluster, one array of them, through submitit.

What is pickled for a job is `Job`, which holds nothing, and plain strings, so that one that is requeued after harp was
updated can still be read. It runs `harp run` as a process of its own, and a requeued one goes on from the run's own
checkpoint.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from harp.arena.launching import ASKED, Begin, Ends, output_of, reason_of, words_of
from harp.errors import HarpError
from harp.extras import need

QUEUED = "queued.yaml"
DAY, OFTEN = 24 * 60, 1000  # minutes a job may take at once, and how often it may come again for more
SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
ONE = ("nodes", "tasks_per_node", "ntasks_per_node", "array_parallelism")
PATIENCE, OFTEN_ASKED = 30.0, 0.1  # seconds for a process to end by itself, and between two looks


class Job:
    """What a job does: called with a cell's folder and its command, the exit status of that command.

    At the cluster's signal submitit calls `checkpoint`, queues what it returns, and ends the job.
    """

    _process: "subprocess.Popen[bytes] | None" = None

    def __call__(self, place: str, *words: str) -> int:
        if (queued := Path(place, QUEUED)).exists():  # not the second time
            os.replace(queued, Path(place, ASKED))
        environment = dict(os.environ)
        if cores := environment.get("SLURM_CPUS_PER_TASK"):
            environment.setdefault("OMP_NUM_THREADS", cores)
        # The cluster may signal every process of a job, but the answer is this one's alone: what is ignored at the
        # start stays ignored in what is started.
        deaf = partial(signal.signal, _preempts(), signal.SIG_IGN)
        with output_of(Path(place)) as output:
            self._process = process = subprocess.Popen(
                words, stdout=output, stderr=output, env=environment, preexec_fn=deaf
            )
        signal.signal(signal.SIGTERM, lambda *_: self._signal(signal.SIGTERM))
        try:
            # Not `wait`, which holds a lock that `checkpoint`, called from a signal in the middle of it, would need.
            while process.poll() is None:
                time.sleep(OFTEN_ASKED)
        finally:
            self._stop()
        return process.returncode

    def checkpoint(self, place: str, *words: str) -> Any:
        """The same again, once the process has ended and with it the run's lock."""
        self._stop()
        return need("submitit.helpers", "slurm").DelayedSubmission(Job(), place, *words)

    def _stop(self) -> None:
        end = time.monotonic() + PATIENCE
        self._signal(signal.SIGTERM)
        while self._alive():
            if time.monotonic() > end:
                self._signal(signal.SIGKILL)
            time.sleep(OFTEN_ASKED)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _alive(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            return False
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        except ChildProcessError:
            return False


class Submitted:
    """A launcher that submits all cells at once and waits for them, `jobs` of them at a time (None: all that fit).

    `parameters` are submitit's, as text; `ranks` processes share a cell. The jobs' own logs lie in `folder`.
    Raises `HarpError` for parameters that there are not, and where there is no such cluster.
    """

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, str] | None = None,
        jobs: int | None = None,
        ranks: int = 1,
        cluster: str = "slurm",
        every: float = 2.0,
    ):
        submitit = need("submitit", "slurm", "--launcher slurm")
        self.ranks, self.every = ranks, every
        options = {"slurm_max_num_timeout": OFTEN, "local_max_num_timeout": OFTEN}
        asked = _parameters(parameters or {}, jobs)
        try:
            self._executor = submitit.AutoExecutor(folder=folder / "jobs", cluster=cluster, **options)
            self._executor.update_parameters(**asked)
        except (NameError, AssertionError, ValueError) as error:
            raise HarpError(f"--slurm: {' '.join(str(error).split())}") from None
        except RuntimeError as error:
            raise HarpError(f"--launcher slurm: {' '.join(str(error).split())}") from None

    def __call__(self, places: Sequence[Path], begin: Begin, flags: Sequence[str] = ()) -> Ends:
        if not places:
            return
        for place in places:
            # It becomes what was asked when the job begins; until then a finished cell is what it was.
            begin(place, QUEUED)
        with self._executor.batch():
            submitted = [
                (self._executor.submit(Job(), str(place), *self._words(place, flags)), place) for place in places
            ]
        waiting = dict(submitted)
        try:
            while waiting:
                for job in [job for job in waiting if job.done()]:
                    place = waiting.pop(job)
                    yield place, _ended(job, place)
                time.sleep(self.every)
        finally:
            for job in waiting:
                job.cancel(check=False)

    def _words(self, place: Path, flags: Sequence[str] = ()) -> list[str]:
        words = words_of(place, flags)
        if self.ranks == 1:
            return words
        spread = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self.ranks)]
        return [sys.executable, *spread, *words[1:]]


def _preempts() -> int:
    name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    return int(getattr(signal, f"SIG{name.removeprefix('SIG')}"))


def _ended(job: Any, place: Path) -> str | None:
    try:
        code = job.result()
    except Exception as error:  # what a job, its node or the cluster can end by
        # A traceback between dashes, and then where the logs are.
        told = str(error).partition("You can check full logs")[0].splitlines()
        lines = [line.strip() for line in told if line.strip(" -")] or [type(error).__name__]
        return f"its job {job.job_id} failed: {lines[-1]}"
    return reason_of(place, code)


def _parameters(given: Mapping[str, str], jobs: int | None) -> dict[str, Any]:
    """The parameters by submitit's names for them: those of all clusters, and the rest as Slurm's own."""
    if strange := sorted(set(given) & set(ONE)):
        raise HarpError(f"--slurm {strange[0]}: a cell is one task of one node; --ranks and --jobs say how many")
    found = {name if name in SHARED else f"slurm_{name}": _value(text) for name, text in given.items()}
    if not {"timeout_min", "slurm_time"} & set(found):
        found["timeout_min"] = DAY
    return found if jobs is None else {**found, "slurm_array_parallelism": jobs}


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
