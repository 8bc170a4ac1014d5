"""The wheel of the runtime in an environment with numpy alone."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import harp
from harp.package import Manifest, write
from tests.package.networks import network
from tests.runtime.graphs import BUILT

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "wheels" / "harp_runtime.py"
RUN = """
import sys
import numpy
import harp
numpy.save(sys.argv[2], harp.load(sys.argv[1])(numpy.load(sys.argv[2])))
print(harp.__version__, harp.__file__)
try:
    harp.evaluate
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(folder)], capture_output=True, check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
def test_it_runs_a_package_with_numpy_and_nothing_else(wheel, tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    for part in Path(np.__file__).parents[1].glob("numpy*"):
        (site / part.name).symlink_to(part)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    write(tmp_path / "a.safetensors", network(0.3), Manifest())
    x = np.random.default_rng(0).random((7, 3, 6, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    command = [str(venv / "bin" / "python"), "-I", "-c", RUN, str(tmp_path / "a.safetensors"), str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert np.array_equal(np.load(tmp_path / "x.npy"), harp.load(tmp_path / "a.safetensors")(x))
    place, missing = done.stdout.splitlines()
    assert place == f"{harp.__version__} {site / 'harp' / '__init__.py'}"
    assert missing.startswith("harp.evaluate needs harp.evaluation, which is not installed")


@pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
def test_its_files_are_harps_own(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("harp/")]
        assert {"harp/__init__.py", "harp/deploy/network.py", "harp/graph/schemas.json"} <= set(names)
        for name in names:
            assert archive.read(name) == (ROOT / "src" / name).read_bytes(), name
        about = archive.read(f"harp_runtime-{project['version']}.dist-info/METADATA").decode()
    needed = [line.split(": ", 1)[1] for line in about.splitlines() if line.startswith("Requires-Dist")]
    assert [line.replace(" ", "") for line in needed] in (["numpy<3,>=2"], ["numpy>=2,<3"])
