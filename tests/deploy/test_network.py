"""The engine alone: the same logits as the whole library, from any thread, without a trace of PyTorch."""

import copy
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import harp
from harp.deploy import Network, load
from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, by_nobody, run
from harp.package import Manifest, unpack, write
from harp.runtime import Alone
from harp.threats import Threat
from tests.package.networks import network, pruned
from tests.runtime.graphs import BUILT

pytestmark = pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
MANIFEST = Manifest(classes=("a", "b", "c", "d"), threat=Threat(eps=0.1))


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "small.safetensors", network(0.3), MANIFEST)
    return tmp_path / "small.safetensors"


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 6, 5), np.float32)


@pytest.mark.parametrize("values", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_logits_are_those_of_the_whole_library_bit_for_bit(values, count, tmp_path):
    write(tmp_path / "a.safetensors", network(0.3), MANIFEST, values)
    found = load(tmp_path / "a.safetensors")(images(count))
    assert found.dtype == np.float32
    assert np.array_equal(found, harp.load(tmp_path / "a.safetensors")(images(count)))


def test_what_the_file_says_is_at_hand(path):
    network = load(path, threads=1)
    assert (network.classes, network.threat, network.shape) == (MANIFEST.classes, MANIFEST.threat, (3, 6, 5))
    assert network.engine.startswith("the sparse engine, ")
    assert network.seal == unpack(path).seal


def test_layouts_and_widths_of_numbers_do_not_matter(path):
    network, x = load(path), images(4)
    for same in (np.asfortranarray(x), x.astype(np.float64), x[::-1][::-1]):
        assert np.array_equal(network(same), network(x))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (images(1)[0], r"one image of shape \[3, 6, 5\]; expected a batch"),
        (np.zeros((2, 3, 5, 6), np.float32), r"images of shape \[2, 3, 5, 6\]; this network takes \[n, 3, 6, 5\]"),
        (np.zeros((2, 3, 6, 5), np.uint8), "images are uint8; expected floating point from 0 to 1; bytes are divided"),
        (np.zeros((0, 3, 6, 5), np.float32), "expected float32"),
        ([[0.0]], "images are a list; expected a numpy array"),
        (torch.zeros(2, 3, 6, 5), "images are a Tensor; expected a numpy array"),
    ],
)
def test_other_images_are_refused(x, words, path):
    with pytest.raises(HarpError, match=words):
        load(path)(x)


def test_a_layer_of_pytorchs_is_refused_by_name(tmp_path):
    plain = network()
    nodes = (*plain.nodes, Node("odds", "softmax.int", (Ref("logits"), 1, None)))
    write(tmp_path / "a.safetensors", replace(plain, nodes=nodes, output="odds"), MANIFEST)
    with pytest.raises(HarpError, match=r"a\.safetensors: the layer 'odds' \(softmax.int\) is one that PyTorch runs"):
        load(tmp_path / "a.safetensors")
    assert harp.load(tmp_path / "a.safetensors")(images(2)).sum() == pytest.approx(2)


def test_a_layer_whose_shape_is_plain_and_whose_kernel_is_not_there_is_refused_too(tmp_path):
    plain = network()
    nodes = (*plain.nodes, Node("e", "exp", (Ref("logits"),)))
    write(tmp_path / "a.safetensors", replace(plain, nodes=nodes, output="e"), MANIFEST)
    with pytest.raises(HarpError, match=r"the layer 'e' \(exp\) is one that PyTorch runs for the sparse engine"):
        load(tmp_path / "a.safetensors")


def test_a_dense_matrix_that_pytorch_is_quicker_at_runs_here_all_the_same(tmp_path):
    weight = pruned((300, 300), 1.0)
    nodes = (
        Node("flat", "relu", (Ref("x"),)),
        Node("y", "linear", (Ref("flat"), Ref("w"), None)),
    )
    write(tmp_path / "a.safetensors", Graph("x", (300,), nodes, "y", {"w": weight}), Manifest())
    x = torch.rand(3, 300, generator=torch.Generator().manual_seed(0))
    expected = x.double() @ weight.double().T
    found = torch.from_numpy(load(tmp_path / "a.safetensors")(x.numpy()))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_graph_for_two_images_takes_twos(tmp_path):
    write(tmp_path / "a.safetensors", replace(network(0.3), batch=2), MANIFEST)
    write(tmp_path / "b.safetensors", network(0.3), MANIFEST)
    found = load(tmp_path / "a.safetensors")
    assert np.array_equal(found(images(6)), load(tmp_path / "b.safetensors")(images(6)))
    with pytest.raises(HarpError, match="3 images; this graph takes multiples of 2"):
        found(images(3))


def test_threads_below_one_and_builds_that_are_not_there(path):
    with pytest.raises(HarpError, match="threads 0: expected at least 1"):
        load(path, threads=0)
    with pytest.raises(HarpError, match="no build 'sse9' of the sparse engine"):
        Alone(unpack(path).graph, variant="sse9")


def together(network: Network, threads: int, calls: int) -> list[tuple[int, int]]:
    """Which calls gave other logits than alone, of so many threads that all call at once."""
    batches = [images(size, size) for size in (1, 2, 5, 9, 17)]
    expected = [network(x) for x in batches]
    wrong: list[tuple[int, int]] = []

    def call(first: int) -> None:
        for number in range(calls):
            which = (first + number) % len(batches)
            if not np.array_equal(network(batches[which]), expected[which]):
                wrong.append((first, number))

    running = [threading.Thread(target=call, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return wrong


def test_sixteen_threads_at_once(path):
    network = load(path, threads=2)
    assert together(network, 16, 40) == []
    assert len(network._engine._idle) <= 16


def test_a_child_of_a_fork_answers_whatever_threads_were_doing(path):
    network = load(path)
    expected, stop = network(images(9)), threading.Event()

    def busy() -> None:
        while not stop.is_set():
            network(images(9))

    thread = threading.Thread(target=busy)
    thread.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(network(images(9)), expected) else 1)
    stop.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_copy_is_compiled_anew(path):
    engine = Alone(unpack(path, by_nobody).graph)
    assert np.array_equal(copy.deepcopy(engine)(images(3)), engine(images(3)))


@pytest.mark.slow
def test_fifty_thousand_calls_from_sixteen_threads_leave_memory_as_it_was(path):
    network = load(path, threads=1)
    together(network, 16, 100)
    before = held()
    assert together(network, 16, 3125) == []
    assert held() - before < 4 * 2**20


def held() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


FRESH = """
import sys
import numpy, harp.deploy
network = harp.deploy.load(sys.argv[1])
numpy.save(sys.argv[2], network(numpy.full((2, 3, 6, 5), 0.5)))
print(*sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[3].split())))
"""
HEAVY = "torch sklearn scipy matplotlib pydantic safetensors rich jinja2 yaml filelock"


def test_a_fresh_process_imports_nothing_of_the_rest(path, tmp_path):
    command = [sys.executable, "-c", FRESH, str(path), str(tmp_path / "logits.npy"), HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    expected = load(path)(np.full((2, 3, 6, 5), 0.5))
    assert np.array_equal(np.load(tmp_path / "logits.npy"), expected)


@pytest.mark.parametrize("what", ["perceptron", "gate of one pixel", "no weights", "flattened images"])
def test_small_networks_need_no_pytorch_either(what, tmp_path):
    """What PyTorch would run at less cost, where there is one."""
    x, flat = Ref("x"), Node("flat", "flatten.using_ints", (Ref("x"), 1, -1))
    nodes, tensors = {
        "perceptron": ((flat, Node("y", "linear", (Ref("flat"), Ref("w"), None))), {"w": pruned((4, 90), 0.3)}),
        "gate of one pixel": (
            (
                Node("mean", "mean.dim", (x, (2, 3), True, None)),
                Node("gate", "sigmoid", (Ref("mean"),)),
                Node("gated", "mul.Tensor", (Ref("mean"), Ref("gate"))),
                Node("y", "flatten.using_ints", (Ref("gated"), 1, -1)),
            ),
            {},
        ),
        "no weights": (
            (Node("half", "mul.Scalar", (x, 0.5)), Node("y", "mean.dim", (Ref("half"), (2, 3), False, None))),
            {},
        ),
        "flattened images": ((replace(flat, name="y"),), {}),
    }[what]
    graph = Graph("x", (3, 6, 5), nodes, "y", tensors)
    write(tmp_path / "a.safetensors", graph, Manifest())
    found = load(tmp_path / "a.safetensors")(images(7))
    assert np.allclose(found, run(graph, torch.from_numpy(images(7))).numpy(), atol=1e-6)
