"""`harp certify` killed thirty times at random moments: what it leaves in the end is what an undisturbed one leaves."""

import json
import multiprocessing
import random
import time

import pytest
from safetensors.torch import save_file

from harp.cli import main
from tests.tiny import workspace

KILLS = 30
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.networks.preloaded"])
ASKED = {
    "smoothing": ["--sigma", "0.25", "--samples", "2000", "--batch", "50"],
    "intervals": ["--by", "intervals", "--threat.eps", "0.001", "--batch", "1"],
}


def ended(words, seconds=None):
    """Whether the command, in a process of its own, came to its end before it was killed after so many seconds."""
    process = PROCESSES.Process(target=main, args=(words,))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()  # SIGKILL
        process.join()
        return False
    assert process.exitcode == 0
    return True


def left(folder):
    """The bytes of every file but the lock; of what the checkout was at that moment nothing is asked."""
    return {path.name: told(path) for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def told(path):
    if path.name not in ("certified.json", "bounded.json"):
        return path.read_bytes()
    return json.dumps({**json.loads(path.read_text()), "environment": None}).encode()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("by", sorted(ASKED))
def test_thirty_kills_change_no_byte_of_the_record(tmp_path, by):
    file = tmp_path / "net.safetensors"
    save_file(workspace(tmp_path / "net").model().state_dict(), file)
    words = ["certify", str(file), "--model.name", "digits_cnn", "--model.width", "0.125", "--data.name", "digits"]
    words += ["--images", "40", *ASKED[by], "--folder"]
    assert ended([*words, str(tmp_path / "whole")])
    began = time.monotonic()
    assert ended([*words, str(tmp_path / "again")])
    length, chance, kills, runs = time.monotonic() - began, random.Random(0), 0, 0
    expected = left(tmp_path / "whole")
    assert left(tmp_path / "again") == expected
    while kills < KILLS:
        folder, finished = str(tmp_path / f"killed-{runs}"), False
        while not finished and kills < KILLS:
            finished = ended([*words, folder], chance.uniform(0, length))
            kills += not finished
        assert finished or ended([*words, folder])
        assert left(tmp_path / f"killed-{runs}") == expected
        runs += 1
    print(f"{by}: {kills} kills over {runs} runs of {length:.1f} s, {len(expected)} files, byte for byte the same")
