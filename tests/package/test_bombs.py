"""Small files that ask for much: refused in a sentence, or run within the memory and time of an ordinary network."""

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage

import pytest
import torch

from harp.errors import HarpError
from harp.graph import Graph, Interpreter, check
from harp.package import Manifest, read, write
from harp.runtime import compile
from tests.package.bombs import BOMBS

ROOM = 200  # MB


def memory() -> int:
    """The most this process has held so far, MB."""
    return getrusage(RUSAGE_SELF).ru_maxrss // 1024


def outcome(graph: Graph, path: Path) -> str:
    """`refused`, or `run` where the logits are PyTorch's."""
    try:
        check(graph)
        write(path, graph, Manifest())
        graph = read(path).graph
        images = torch.rand(graph.batch or 1, *graph.shape)
        made = compile(graph)(images)
    except HarpError as error:
        return "babbled" if "\n" in str(error) else "refused"
    expected = Interpreter(graph)(images)
    scale = expected.nan_to_num().abs().max().clamp(min=1e-30)
    assert torch.allclose(made / scale, expected / scale, atol=1e-5, equal_nan=True)
    return "run"


def drop(seed: int, folder: Path) -> tuple[str, float, int]:
    """The seed's bomb: what came of it, seconds of processor time and MB it took."""
    chance = Random(seed)
    graph, before, began = chance.choice(BOMBS)(chance), memory(), time.process_time()
    return outcome(graph, folder / "bomb"), time.process_time() - began, memory() - before


def dropped(first: int, count: int, folder: Path) -> list[str]:
    """In a process of its own, whose memory is its own: a line for each."""
    command = [sys.executable, "-m", "tests.package.test_bombs", str(first), str(count), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_a_bomb_is_refused_or_small(count: int, tmp_path: Path):
    lines = dropped(0, count, tmp_path)
    words = [line.split()[0] for line in lines]
    assert len(words) == count
    assert 0.3 * count < words.count("refused") < count
    assert max(int(line.split()[2]) for line in lines) <= ROOM
    # A second is what one may take on a core of its own; shared cores take longer for the same.
    assert max(float(line.split()[1]) for line in lines if line.startswith("refused")) <= 3


if __name__ == "__main__":
    torch.set_num_threads(1)
    drop(0, Path(sys.argv[3]))  # what a first call loads counts for nobody
    for seed in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
        word, seconds, size = drop(seed, Path(sys.argv[3]))
        print(word, f"{seconds:.2f}", size, seed, flush=True)
