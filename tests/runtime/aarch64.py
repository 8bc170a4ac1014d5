"""The wheel of the runtime for aarch64, run under qemu: `python -m tests.runtime.aarch64 [GRAPHS]`.

This machine draws random graphs, packs each and asks PyTorch; an emulated processor with a Python of its own, numpy and
the wheel `harp-runtime` answers for the same packages. Debian has what it takes: `qemu-user`, `g++-aarch64-linux-gnu`
and, after `dpkg --add-architecture arm64 && apt-get update`, the packages of that Python, which are only unpacked.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from torch import Tensor

from harp.graph import Graph
from harp.package import Manifest, write
from tests.runtime.graphs import error, graphs

ROOT = Path(__file__).parents[2]
# Python, and what it loads when numpy is imported.
PARTS = ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6"]
PARTS += ["zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3"]
WHEELS = ["--only-binary", ":all:", "--no-deps", "--python-version", "3.11", "--platform", "manylinux_2_28_aarch64"]
TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-g++", "apt-get", "dpkg")
# One thread and three give the same bits; beside them, what the build with 16 bits between layers gives.
ANSWER = """
import pathlib, sys
import numpy, harp
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.safetensors")):
    images = numpy.load(path.with_suffix(".images.npy"))
    found = [harp.load(path, threads=threads)(images) for threads in (1, 3)]
    assert numpy.array_equal(*found, equal_nan=True), path
    numpy.save(path.with_suffix(".logits.npy"), found[0])
    numpy.save(path.with_suffix(".fp16.npy"), harp.load(path, precision="fp16")(images))
print(harp.load(path).engine)
"""


def missing() -> str:
    """What this machine lacks, in words; empty where nothing is."""
    if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"needs {', '.join(lacking)}; tests/runtime/aarch64.py says which packages have them"
    known = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True)
    return "" if "arm64" in known.stdout.split() else "needs `dpkg --add-architecture arm64 && apt-get update`"


def prepare(folder: Path) -> None:
    """A Python for aarch64 in `folder / "root"`, and in `folder / "site"` numpy and the runtime's wheel."""
    debian, wheels = folder / "debian", folder / "wheels"
    debian.mkdir()
    parts = [f"{name}:arm64" for name in PARTS]
    subprocess.run(["apt-get", "download", "-q", *parts], cwd=debian, capture_output=True, check=True)
    for package in debian.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    download = [sys.executable, "-m", "pip", "download", "-q", *WHEELS, "-d", str(wheels), f"numpy=={np.__version__}"]
    subprocess.run(download, check=True)
    script = [str(ROOT / "wheels" / "harp_runtime.py"), "--machine", "aarch64", "--out", str(wheels)]
    subprocess.run([sys.executable, *script], capture_output=True, check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")


def draw(folder: Path, count: int) -> list[tuple[Graph, Tensor]]:
    """Random graphs with images, packed into the folder by number."""
    drawn: list[tuple[Graph, Tensor]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(graph=graphs(), images=st.sampled_from([1, 2, 5, 9]))
    def one(graph: Graph, images: int) -> None:
        x = torch.rand(images, *graph.shape, generator=torch.Generator().manual_seed(images))
        place = folder / f"{len(drawn):05}.safetensors"
        write(place, graph, Manifest())
        np.save(place.with_suffix(".images.npy"), x.numpy())
        drawn.append((graph, x))

    one()
    return drawn


def answer(folder: Path, examples: Path) -> str:
    """The logits of every package in `examples`, written beside it; gives which engine ran them."""
    python = ["qemu-aarch64", "-L", str(folder / "root"), str(folder / "root" / "usr" / "bin" / "python3.11")]
    environment = {"PYTHONPATH": str(folder / "site"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*python, "-c", ANSWER, str(examples)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def compare(examples: Path, drawn: list[tuple[Graph, Tensor]]) -> list[dict[str, float]]:
    """For each that is further from float64 than PyTorch allows, or 16 bits do, by number: how far they are."""
    wrong: list[dict[str, float]] = []
    for number, (graph, x) in enumerate(drawn):
        made, narrow = (torch.from_numpy(np.load(examples / f"{number:05}.{kind}.npy")) for kind in ("logits", "fp16"))
        (mine, torchs), (fp16, _) = (error(graph, found, x) for found in (made, narrow))
        if not (mine <= max(1e-5, 3 * torchs) and fp16 <= 0.05):
            wrong.append({"number": number, "mine": mine, "torch": torchs, "fp16": fp16})
    return wrong


def main() -> None:
    if words := missing():
        raise SystemExit(words)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with TemporaryDirectory() as here:
        folder, examples = Path(here), Path(here, "examples")
        examples.mkdir()
        prepare(folder)
        drawn = draw(examples, count)
        engine = answer(folder, examples)
        wrong = compare(examples, drawn)
    print(json.dumps({"graphs": len(drawn), "engine": engine, "wrong": wrong}))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
