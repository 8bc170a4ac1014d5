"""This folder's tests on builds of the engine that watch memory and arithmetic: `python -m tests.runtime.sanitized`.

Every build that the processor runs is made with AddressSanitizer and UndefinedBehaviorSanitizer and gets a process of
its own, into which their libraries are preloaded. Leaks are not looked for: Python's own would drown them.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harp.runtime import native, variants

MARCH = {"avx512": ["-march=x86-64-v4"], "avx2": ["-march=x86-64-v3"]}
FLAGS = [
    "-O1",
    "-g1",
    "-std=c++17",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-pthread",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
]
SOURCE = native.FOLDER / "engine.cpp"
TESTS = [f"tests/runtime/test_{name}.py" for name in ("acts", "blocks", "cells", "convolutions", "engine", "lowering")]
TESTS += [f"tests/runtime/test_{name}.py" for name in ("padding", "segments", "tiling")]


def libraries() -> list[Path]:
    """What has to be preloaded; empty where g++ or a library of its is missing."""
    try:
        ask = [["g++", f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
        found = [Path(subprocess.run(one, capture_output=True, text=True, check=True).stdout.strip()) for one in ask]
    except OSError:
        return []
    return found if all(path.is_absolute() for path in found) else []


def build(variant: str, folder: Path) -> None:
    """The engine for that instruction set, in both precisions, as libraries in the folder."""
    for ending, cells in (("", []), ("_fp16", ["-DHARP_FP16"])):
        flags = [*FLAGS, *MARCH.get(variant, []), *cells]
        made = folder / f"_engine_{variant}{ending}.so"
        subprocess.run(["g++", "-shared", "-fPIC", *flags, str(SOURCE), "-o", str(made)], check=True)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest, told of no builds but those in the folder."""
    preload = {"LD_PRELOAD": " ".join(map(str, libraries())), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "tests.runtime.sanitized", str(folder), *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env={**os.environ, **preload}, capture_output=True, text=True)


def main() -> None:
    for variant in variants():
        with TemporaryDirectory() as folder:
            build(variant, Path(folder))
            done = run(Path(folder), *TESTS)
        print(variant, done.stdout, done.stderr, sep="\n")
        if done.returncode:
            raise SystemExit(done.returncode)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        native.FOLDER = Path(sys.argv[1])
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
