"""Builds the sparse engine, once per instruction set; without a C++ compiler harp installs without it."""

import copy
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMMON = ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-Wno-psabi", "-Wno-ignored-attributes", "-pthread"]
X86 = {
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
    "base": ["-march=x86-64-v2"],
}
BUILDS: dict[str, dict[str, list[str]]] = {"x86_64": X86, "aarch64": {"base": []}}
# By the ending of its name: what a build keeps between layers.
PRECISIONS = {"": [], "_fp16": ["-DHARP_FP16"]}
# Of the machine that is built for: a cross build names another in _PYTHON_HOST_PLATFORM, as sysconfig reads it.
SYSTEM, _, MACHINE = sysconfig.get_platform().partition("-")
VARIANTS = BUILDS.get(MACHINE, {}) if SYSTEM == "linux" else {}


class BuildEngine(build_ext):
    """Plain shared libraries with a C interface: no name of a Python version in their file names."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel: int = self.parallel or 2

    def build_extension(self, ext: Extension) -> None:
        # A folder of objects for each: all are made of one file, and two are made at a time.
        own = copy.copy(self)
        own.build_temp = f"{self.build_temp}/{ext.name}"
        build_ext.build_extension(own, ext)

    def get_ext_filename(self, name: str) -> str:
        return name.replace(".", "/") + ".so"


setup(
    cmdclass={"build_ext": BuildEngine},
    ext_modules=[
        Extension(
            f"harp.runtime._engine_{variant}{precision}",
            ["src/harp/runtime/engine.cpp"],
            depends=sorted(map(str, Path("src/harp/runtime").rglob("*.h"))),
            extra_compile_args=[*COMMON, *flags, *cells],
            extra_link_args=["-pthread", "-s"],
            language="c++",
            optional=True,
        )
        for variant, flags in VARIANTS.items()
        for precision, cells in PRECISIONS.items()
    ],
)
