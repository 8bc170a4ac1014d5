"""The wheel `harp-runtime`: the files of harp that it takes to run packages, which need numpy and nothing else.

    .venv/bin/python wheels/harp_runtime.py [--out dist]

The files are harp's own, byte for byte: those that `import harp.deploy` loads, and the engine as it is built in this
checkout (built first, where it is older than its source). So a program runs alike with either distribution.
"""

import argparse
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
BESIDE = ("__init__.pyi", "schemas.json")
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
harp = ["*.pyi", "*/*.pyi", "graph/schemas.json", "runtime/*.so"]
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


def engines() -> list[Path]:
    return sorted(SOURCE.glob("harp/runtime/_engine_*.so"))


def built() -> bool:
    """Whether every build of the engine that is there is newer than its sources."""
    folder = SOURCE / "harp" / "runtime"
    latest = max(path.stat().st_mtime for path in (folder / "engine.cpp", *folder.glob("kernels/*.h")))
    return bool(engines()) and all(path.stat().st_mtime > latest for path in engines())


def files() -> list[Path]:
    """What goes into the wheel, by place in `src`."""
    told = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCE)}
    )
    found = [Path(line) for line in told.stdout.splitlines()]
    beside = [path.with_name(name) for path in found for name in BESIDE if path.with_name(name).exists()]
    if not engines():
        raise SystemExit("the engine is not built here, and no runtime runs without it; is there a C++ compiler?")
    return sorted(path.relative_to(SOURCE) for path in {*found, *beside, *engines()})


def lay_out(folder: Path) -> None:
    """`folder` is the project that the wheel is made of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    numpy = next(line for line in project["dependencies"] if line.startswith("numpy"))
    values = {"version": project["version"], "python": project["requires-python"], "numpy": numpy}
    (folder / "pyproject.toml").write_text(PROJECT.format(**values))
    (folder / "setup.py").write_text(SETUP)
    (folder / "README.md").write_text(README)
    shutil.copy(ROOT / "LICENSE", folder)
    for path in files():
        (folder / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / path, folder / "src" / path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder for the wheel")
    out = parser.parse_args().out.resolve()
    if not built():
        subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=ROOT, check=True)
    with TemporaryDirectory() as folder:
        lay_out(Path(folder))
        command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", str(out)]
        subprocess.run(command, cwd=folder, check=True)
    print(*sorted(out.glob("harp_runtime-*.whl")), sep="\n")


if __name__ == "__main__":
    main()
