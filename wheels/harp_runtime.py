"""The wheel `harp-runtime`: the files of harp that it takes to run packages, which need numpy and nothing else.

    .venv/bin/python wheels/harp_runtime.py [--out dist] [--machine aarch64]

The files are harp's own, byte for byte: those that `import harp.deploy` loads, and the engine as it is built in this
checkout (built first, where it is older than its source), or for another machine by its cross compiler. So a program
runs alike with either distribution.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
# Those that are there once all that runs a package is imported; whatever would import torch shows here.
LOADED = """
import sys
sys.modules["torch"] = None
import harp.deploy
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "harp"), sep="\\n")
"""
BESIDE = ("__init__.pyi", "schemas.json", "harp.h")
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "harp-runtime"
version = "{version}"
description = "Runs networks packed by harp-pruning: the sparse engine, with numpy and nothing else"
readme = "README.md"
requires-python = "{python}"
license = "Apache-2.0"
license-files = ["LICENSE"]
dependencies = ["{numpy}"]

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
harp = ["*.pyi", "*/*.pyi", "graph/schemas.json", "runtime/harp.h", "runtime/*.so"]
"""
# Plain shared libraries: no Python version in their names or inside.
SETUP = """
from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class Compiled(Distribution):
    def has_ext_modules(self):
        return True


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(distclass=Compiled, cmdclass={"bdist_wheel": AnyPython})
"""
README = """# harp-runtime

Runs networks that `harp-pruning` packed, on a CPU, with numpy and nothing else:

```python
import harp

network = harp.load("package.safetensors")
logits = network(images)  # numpy, floating point [n, c, h, w] in [0, 1]; from any number of threads at once
print(network.classes, network.threat, network.engine)
```

It is a part of `harp-pruning`, which has all of this, too: install the one or the other.
"""


def engines(root: Path) -> list[Path]:
    return sorted(root.glob("harp/runtime/_engine_*.so"))


def built() -> bool:
    """Whether every build of the engine that is there is newer than its sources."""
    folder = SOURCE / "harp" / "runtime"
    latest = max(path.stat().st_mtime for path in (folder / "engine.cpp", *folder.rglob("*.h")))
    return bool(engines(SOURCE)) and all(path.stat().st_mtime > latest for path in engines(SOURCE))


def cross(machine: str) -> dict[str, str]:
    """The environment in which setuptools builds for that machine, by the compiler that Debian names after it."""
    compiler = f"{machine}-linux-gnu-g++"
    if not shutil.which(compiler):
        raise SystemExit(f"{compiler} is not installed; on Debian it is in the package g++-{machine}-linux-gnu")
    tools = {"CC": compiler, "CXX": compiler, "LDSHARED": f"{compiler} -shared", "LDCXXSHARED": f"{compiler} -shared"}
    return {**os.environ, **tools, "_PYTHON_HOST_PLATFORM": f"linux-{machine}"}


def files() -> list[Path]:
    """What goes into the wheel, by place in `src`."""
    told = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCE)}
    )
    found = [Path(line) for line in told.stdout.splitlines()]
    beside = [path.with_name(name) for path in found for name in BESIDE if path.with_name(name).exists()]
    return sorted(path.relative_to(SOURCE) for path in {*found, *beside})


def lay_out(folder: Path, root: Path) -> None:
    """`folder` is the project that the wheel is made of, with the engine as it is built under `root`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    numpy = next(line for line in project["dependencies"] if line.startswith("numpy"))
    values = {"version": project["version"], "python": project["requires-python"], "numpy": numpy}
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT.format(**values))
    (folder / "setup.py").write_text(SETUP)
    (folder / "README.md").write_text(README)
    shutil.copy(ROOT / "LICENSE", folder)
    if not engines(root):
        raise SystemExit("the engine is not built here, and no runtime runs without it; is there a C++ compiler?")
    places = [SOURCE / path for path in files()]
    for path, start in [(path, SOURCE) for path in places] + [(path, root) for path in engines(root)]:
        place = folder / "src" / path.relative_to(start)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def setup(project: Path, environment: dict[str, str], *command: str) -> None:
    subprocess.run([sys.executable, "setup.py", "--quiet", *command], cwd=project, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder for the wheel")
    parser.add_argument("--machine", default=platform.machine(), help="for which it is built, as x86_64 or aarch64")
    asked = parser.parse_args()
    out, here = asked.out.resolve(), asked.machine == platform.machine()
    environment = dict(os.environ) if here else cross(asked.machine)
    with TemporaryDirectory() as folder:
        root = SOURCE if here else Path(folder, "built")
        if not (here and built()):
            where = ["--inplace"] if here else ["--build-lib", str(root), "--build-temp", str(Path(folder, "objects"))]
            setup(ROOT, environment, "build_ext", *where)
        lay_out(Path(folder, "project"), root)
        setup(Path(folder, "project"), environment, "bdist_wheel", "--dist-dir", str(out))
    print(*sorted(out.glob("harp_runtime-*.whl")), sep="\n")


if __name__ == "__main__":
    main()
