"""Wheel and sdist tried as users get them, each in an empty environment: `python -m tests.installed dist`.

The wheel holds the engine and is installed where there is no compiler, with the versions in constraints.txt and with
the lowest that pyproject.toml admits; the sdist is installed with a compiler, which builds the engine, and without,
which leaves PyTorch to run packages. Each must pass `CORE` outside of the checkout. Says which Python and torch that
was; minutes a case, most of it installing torch.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CORE = (
    *("tests/test_errors.py", "tests/test_registry.py", "tests/config/test_reading.py", "tests/sparsity/test_masks.py"),
    *("tests/package/test_container.py", "tests/package/test_codec.py", "tests/sparsity/test_budgets.py"),
    *("tests/pruners/test_harp.py", "tests/attacks/test_pgd.py", "tests/export/test_deployed.py"),
)
# No C++ compiler is found by one that only fails, whatever else is installed.
WITHOUT = {"CC": "false", "CXX": "false"}
SAYS = """
import harp, torch, sys
from pathlib import Path
from importlib.metadata import version
from harp.runtime.native import built
assert Path(harp.__file__).is_relative_to(sys.prefix), harp.__file__
print("python", sys.version.split()[0], "torch", torch.__version__, "numpy", version("numpy"))
print("engine", ",".join(built()) or "none")
"""


def main(folder: Path) -> None:
    wheel, sdist = only(folder, "*.whl"), only(folder, "*.tar.gz")
    pinned = (ROOT / "constraints.txt").read_text()
    cases: tuple[tuple[str, Path, dict[str, str], str, bool], ...] = (
        ("the lowest versions", wheel, WITHOUT, lowest(), True),
        ("no compiler", wheel, WITHOUT, pinned, True),
        ("a compiler", sdist, {}, pinned, True),
        ("no compiler", sdist, WITHOUT, pinned, False),
    )
    for what, file, env, versions, engine in cases:
        title = f"{file.name}, {what}"
        with TemporaryDirectory() as place:
            said = tried(file, env, versions, Path(place))
        assert ("engine none" in said) is not engine, f"{title}: {said}"
        print(f"{title}: {said}", flush=True)


def only(folder: Path, pattern: str) -> Path:
    """The one file of that name in the folder."""
    found = sorted(folder.resolve().glob(pattern))
    assert len(found) == 1, f"{folder} has {len(found)} of {pattern}; expected one"
    return found[0]


def lowest() -> str:
    """Constraints: of each library that harp needs the lowest version that it admits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for text in project["dependencies"]:
        needed = Requirement(text)
        (found[needed.name],) = (each.version for each in needed.specifier if each.operator == ">=")
    return "".join(f"{name}=={version}\n" for name, version in found.items())


def tried(file: Path, env: dict[str, str], versions: str, place: Path) -> str:
    """What the installed package says of itself, after its commands and core tests ran in `place`."""
    venv.create(place / "env", with_pip=True)
    python = place / "env" / "bin" / "python"
    # The checkout must not be found: neither by a path nor as the folder the tests run in.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | env
    tests = place / "work"
    shutil.copytree(ROOT / "tests", tests / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tests)

    def run(*words: str | Path) -> str:
        done = subprocess.run([python, *words], cwd=tests, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    (place / "constraints.txt").write_text(versions)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", place / "constraints.txt")
    run(*pip, "pytest", "pytest-timeout", "hypothesis", "pyarrow", "pillow")
    run(*pip, file)
    run("-m", "harp", "--version")
    run("-m", "harp", "list")
    passed = run("-m", "pytest", "-q", *CORE).splitlines()[-1]
    return "; ".join([*run("-c", SAYS).splitlines(), passed])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
