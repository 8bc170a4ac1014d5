"""The engine beside forks and in processes that may begin no more threads; each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.graphs import BUILT

pytestmark = pytest.mark.skipif(not BUILT, reason="no compiler here")

BEGIN = """
import os, resource, sys, threading, time, torch
from harp.runtime import compile
from tests.runtime.graphs import one
torch.set_num_threads(1)
graph = one(torch.ones(8, 3, 3, 3) / 27, (3, 64, 64))
x = torch.rand(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
expected = compile(graph)(x)
"""
FORK = """
engine = compile(graph)
assert torch.equal(engine(x), expected)
engine._lock.acquire()  # as while another thread's call runs
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(engine(x), expected) else 1)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.05)
os.kill(child, 9)
sys.exit("the child hangs")
"""
CROWDED = """
engine = compile(graph, threads=8)
engine(x[:1])  # with more, stacks of threads that ended would be kept for others
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
threading.stack_size(0)
resource.setrlimit(resource.RLIMIT_AS, (size + 6 * 2**20,) * 2)  # a thread's stack takes 2**23
try:
    threading.Thread(target=int).start()
    sys.exit("a thread began")
except RuntimeError:
    pass
made = engine(x[:20])
sys.exit(0 if torch.equal(made, expected[:20]) else "other logits")
"""


def ended(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGIN + program]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)


@pytest.mark.parametrize("program", [FORK, CROWDED], ids=["fork", "crowded"])
def test_it_goes_on(program: str):
    done = ended(program)
    assert done.returncode == 0, done.stderr
