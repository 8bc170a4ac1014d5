"""Plans: a C program gives the logits that Python gives, and refuses what is no plan of its engine."""

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harp.deploy import load, save_plan
from harp.errors import HarpError
from harp.graph import Node, Ref
from harp.package import Manifest, write
from harp.runtime import Precision
from harp.runtime.native import built
from tests.package.networks import network
from tests.runtime.graphs import BUILT, FP16

pytestmark = pytest.mark.skipif(not BUILT or not shutil.which("cc"), reason="needs the sparse engine and a C compiler")
SOURCE = Path(__file__).parents[2] / "examples" / "c" / "classify.c"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "small.safetensors"
    write(path, network(0.3), Manifest())
    return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The example, linked with each build of the engine."""
    folder = tmp_path_factory.mktemp("programs")
    for variant in BUILT + FP16:
        options = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{built()[variant].parent}"]
        command = ["cc", *options, str(SOURCE), str(built()[variant]), "-o", str(folder / variant)]
        subprocess.run(command, check=True)
    return folder


def answer(program: Path, plan: Path, images: np.ndarray, threads: int = 1) -> tuple[np.ndarray, str, int]:
    command = [str(program), str(plan), str(threads)]
    done = subprocess.run(command, input=images.tobytes(), capture_output=True, check=False)
    return np.frombuffer(done.stdout, np.float32), done.stderr.decode(), done.returncode


@pytest.mark.parametrize("variant", BUILT + FP16)
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (1, 2), (5, 1), (40, 3)])
def test_logits_are_those_of_python_bit_for_bit(package, programs, tmp_path, variant, count, threads):
    library = save_plan(package, tmp_path / "a.plan", variant)
    assert library == built()[variant]
    images = np.random.default_rng(count).random((count, 3, 6, 5), np.float32)
    precision: Precision = "fp16" if variant in FP16 else "fp32"
    found, said, code = answer(programs / variant, tmp_path / "a.plan", images, threads)
    assert code == 0, said
    if variant in (BUILT[0], FP16[0]):
        expected = load(package, threads, precision)(images)
        assert np.array_equal(found.reshape(count, 4), expected)
        best = " ".join(map(str, expected.argmax(1)))
        assert said == f"{count} images: {best}\n"
    assert np.allclose(found.reshape(count, 4), load(package)(images), atol=0.01)


def test_a_plan_of_another_build_is_refused(package, programs, tmp_path):
    save_plan(package, tmp_path / "a.plan", BUILT[0])
    for other in {BUILT[-1], FP16[0]} - {BUILT[0]}:
        _, said, code = answer(programs / other, tmp_path / "a.plan", np.zeros(90, np.float32))
        assert (code, said) == (1, f"classify: {ANOTHER}\n")


ANOTHER = "the plan is of another build of the engine, or of another version of harp; write it anew for this one"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plan: plan[:-8], "the plan is cut short"),
        (lambda plan: plan[:20], "the file is no plan; harp.deploy.save_plan writes one"),
        (lambda plan: b"safetens" + plan[8:], "the file is no plan; harp.deploy.save_plan writes one"),
        (lambda plan: plan[:24] + struct.pack("<q", len(plan)) + plan[32:], "the plan is damaged"),
        (lambda plan: plan[:-8] + struct.pack("<q", len(plan)), "the plan is damaged"),
    ],
)
def test_what_is_no_whole_plan_is_refused(package, programs, tmp_path, damage, words):
    save_plan(package, tmp_path / "a.plan")
    (tmp_path / "b.plan").write_bytes(damage((tmp_path / "a.plan").read_bytes()))
    _, said, code = answer(programs / BUILT[0], tmp_path / "b.plan", np.zeros(90, np.float32))
    assert (code, said) == (1, f"classify: {words}\n")


def test_no_images_and_no_file(package, programs, tmp_path):
    save_plan(package, tmp_path / "a.plan")
    assert answer(programs / BUILT[0], tmp_path / "a.plan", np.zeros(89, np.float32))[2] == 1
    _, said, code = answer(programs / BUILT[0], tmp_path / "gone.plan", np.zeros(90, np.float32))
    assert (code, said) == (1, "classify: there is no such file, or it may not be read\n")


def test_what_cannot_be_planned_leaves_no_file(package, tmp_path):
    plain = network()
    nodes = (*plain.nodes, Node("odds", "softmax.int", (Ref("logits"), 1, None)))
    write(tmp_path / "a.safetensors", replace(plain, nodes=nodes, output="odds"), Manifest())
    with pytest.raises(HarpError, match="'odds'"):
        save_plan(tmp_path / "a.safetensors", tmp_path / "a.plan")
    with pytest.raises(HarpError, match="no build 'avx1024'"):
        save_plan(package, tmp_path / "a.plan", "avx1024")
    assert not (tmp_path / "a.plan").exists()
