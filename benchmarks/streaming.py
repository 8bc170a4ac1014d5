"""Memory and resuming of a folder of JPEGs that is streamed: two epochs, killed often, every image once an epoch.

    .venv/bin/python benchmarks/streaming.py [--images 100000] [--kills 20] [--size 64] [--out FILE]

A child process goes through two epochs of `Streamed` and writes down, batch by batch, which images it got (their labels
are their numbers). It is killed (SIGKILL) after random times, and each new one goes on from the number of batches that
were written down, the only thing it knows of the one before. Its memory (what is its own, without file pages) is read
every tenth of a second; how much it grows after the first fifty batches is told, child by child the most. Exit status 1
where an image is missing from an epoch or comes twice, or where memory grows by more than 200 MB.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from harp.data import Reading, Stored, Streamed, load
from harp.runs import environment
from loading import make_folder

BATCH, EPOCHS, MOST = 100, 2, 200e6


def child(root: Path, log: Path, size: int) -> None:
    """Goes on with the log to the end of the epochs."""
    torch.set_num_threads(1)
    stored = load("folder", root, reading=Reading((size, size), stream="always", workers=2)).train
    assert isinstance(stored, Stored)
    data = Streamed(stored.relabelled(torch.arange(len(stored))), BATCH, 0, device="cpu", flip=True, crop=(0.08, 1.0))
    done = len(lines(log))
    with open(log, "a") as written:
        for _, y in islice(data.after(done), EPOCHS * data.steps_per_epoch - done):
            written.write(" ".join(map(str, y.tolist())) + "\n")
            written.flush()


def lines(log: Path) -> list[str]:
    """The whole lines; half a one, which a kill left, is taken out of the file."""
    text = log.read_text() if log.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    log.write_text(whole)
    return whole.splitlines()


def resident(process: int) -> int:
    """Bytes of the process's own memory now, 0 where it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def watch(command: list[str], log: Path, seconds: float | None) -> tuple[bool, int]:
    """Whether the child came to the end before it was killed, and by how many bytes it grew after fifty batches."""
    process, began, before = subprocess.Popen(command), time.monotonic(), log.read_text().count("\n")
    first, most = 0, 0
    while process.poll() is None:
        time.sleep(0.1)
        if seconds is not None and time.monotonic() - began > seconds:
            process.kill()
            process.wait()
            return False, max(0, most - first)
        if log.read_text().count("\n") > before + 50:
            now = resident(process.pid)
            first, most = first or now, max(most, now)
    if process.returncode:
        raise SystemExit(f"the child failed with {process.returncode}")
    return True, max(0, most - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--longest", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=20, help="a child is killed after at most so many")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        root, log = options.child
        child(root, log, options.size)
        return
    rng, kills, grown, ended = random.Random(0), 0, 0, False
    with tempfile.TemporaryDirectory() as box:
        root, log = make_folder(Path(box) / "images", options.images, options.longest), Path(box) / "log"
        log.touch()
        command = [sys.executable, __file__, "--size", str(options.size), "--child", str(root), str(log)]
        while not ended:
            seconds = rng.uniform(options.seconds / 4, options.seconds) if kills < options.kills else None
            ended, more = watch(command, log, seconds)
            kills, grown = kills + (not ended), max(grown, more)
        numbers = [int(number) for line in lines(log) for number in line.split()]
    n = options.images // BATCH * BATCH
    epochs = [numbers[start : start + n] for start in range(0, len(numbers), n)]
    once = [len(set(epoch)) == n for epoch in epochs]
    print(
        f"{kills} kills; {len(epochs)} epochs of {n:,} images, each once: {once}; memory grew by {grown / 1e6:.0f} MB"
    )
    if options.out:
        about = {"images": options.images, "size": options.size, "longest": options.longest, "batch": BATCH}
        found = {"kills": kills, "epochs": len(epochs), "each_once": once, "grown_bytes": grown}
        told = {**about, "environment": environment(torch.device("cpu")), **found}
        options.out.write_text(json.dumps(told, indent=1) + "\n")
    if len(epochs) != EPOCHS or not all(once) or grown > MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
