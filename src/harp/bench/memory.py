"""How much memory a runner takes, measured in a process of its own."""

import gc
import json
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from harp.bench.runners import RUNNERS
from harp.bench.subject import Subject
from harp.errors import HarpError

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CALLS = 3


def memory(runner: str, subject: Subject, threads: int, batch: int) -> dict[str, int] | None:
    """Bytes that loading the network and running it added to a fresh process that has the libraries imported.

    `peak` is the most at any moment, `after` what is held after three calls on `batch` images. None where the system
    keeps no such count (it is Linux's /proc). Raises `HarpError` where the process fails.
    """
    if not RESET.exists():
        return None
    task = {"runner": runner, "threads": threads, "batch": batch, "settings": dict(subject.settings)}
    paths = {"weights": str(subject.weights) if subject.weights else None, "folder": str(subject.folder)}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=json.dumps({**task, **paths}), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise HarpError(f"measuring the memory of {runner} failed: {reason}")
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measured(task: dict[str, Any]) -> dict[str, int]:
    runner = RUNNERS[task["runner"]]
    weights = Path(task["weights"]) if task["weights"] else None
    subject = Subject(task["settings"], weights, Path(task["folder"]))
    x = subject.images(task["batch"])
    for library in runner.libraries:
        import_module(library)
    torch.nn.functional.conv2d(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 3, 3))  # what PyTorch sets up once
    gc.collect()
    before = _bytes("VmRSS")
    with suppress(OSError):
        RESET.write_text("5")  # the high-water mark begins anew
    with torch.inference_mode():
        answer = runner.make(subject, x, task["threads"])
        for _ in range(CALLS):
            answer(x)
    after = _bytes("VmRSS")
    return {"peak": max(0, _bytes("VmHWM") - before), "after": max(0, after - before)}


def _bytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(_measured(json.load(sys.stdin))))
