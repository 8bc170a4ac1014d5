"""Plans: networks for C programs, by harp.h."""

import os
from os import PathLike
from pathlib import Path

from harp.drafts import draft
from harp.errors import HarpError
from harp.graph import by_nobody
from harp.package import unpack
from harp.runtime import Alone, Precision, plan_bytes
from harp.runtime.native import built


def save_plan(
    package: str | PathLike[str],
    path: str | PathLike[str],
    variant: str | None = None,
    precision: Precision = "fp32",
) -> Path:
    """The library that a C program links to run the plan, which is written to `path`: see `harp.h` beside it.

    `variant` names the build of the engine that is to run it (`avx512`, `avx2`, `base`, with `_fp16` behind it for 16
    bits between layers); None: the quickest this machine runs, of that `precision`. Raises `HarpError` for all that
    `harp.deploy.load` refuses, and for a network that the engine runs in several parts.
    """
    alone = Alone(unpack(package, by_nobody).graph, 1, variant, precision)
    if len(alone._segments) != 1:
        raise HarpError(f"{os.fspath(package)}: the engine runs it in {len(alone._segments)} parts, and a plan has one")
    if alone.graph.batch is not None:
        raise HarpError(f"{os.fspath(package)}: it answers {alone.graph.batch} images at a time, and a plan any number")
    with draft(Path(path)) as place:
        place.write_bytes(plan_bytes(alone._segments[0], alone.build))
    return built()[alone.build.variant]
