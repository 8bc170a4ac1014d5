"""What `harp --version` tells: which harp this is, what it runs on, and how its engine was built."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harp.version import VERSION, commit

ENGINE = Path(__file__).parents[1] / "runtime"
COMPILER = re.compile(rb"(GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+)")


def about() -> Iterator[str]:
    """The lines. torch is not imported, which would take seconds: versions are those of what is installed."""
    yield ", commit ".join(filter(None, [f"harp {VERSION}", commit()]))
    yield f"python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"torch {_installed('torch')}, numpy {_installed('numpy')}, safetensors {_installed('safetensors')}"
    builds = sorted(ENGINE.glob("_engine_*.so"))
    if not builds:
        yield "sparse engine: not built (no C++ compiler when harp was installed); PyTorch runs packages"
        return
    names = ", ".join(path.stem.removeprefix("_engine_") for path in builds)
    compilers = sorted({found[1].decode() for path in builds if (found := COMPILER.search(path.read_bytes()))})
    yield "; built by ".join(filter(None, [f"sparse engine: {names}", ", ".join(compilers)]))


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
