"""A run directory: files that are whole or absent, metrics as JSON lines, done-markers, the environment.

Nothing here is pickled. A checkpoint is one safetensors file: tensors by dotted name, everything else as JSON in its
header, so that both are replaced in one atomic rename and can never disagree.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import safetensors
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from harp.errors import HarpError
from harp.version import VERSION, commit

Tree = dict[str, Any]  # nested dictionaries with str keys, whose leaves are tensors or JSON values


def write_atomic(path: Path, data: bytes) -> None:
    """`path` holds `data`; a reader or a crash at any moment finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def file_word(what: str, name: str) -> str:
    """`name` itself, which is to be part of a file's name; raises `HarpError` where it would lead to another folder."""
    if not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise HarpError(f"{what} cannot be called {name!r}: it becomes a file's name; expected a word without / or \\")
    return name


def file_digest(path: Path) -> str:
    """The file's SHA-256, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """`path` holds `value` as indented JSON, atomically; NaN and infinity are refused with `ValueError`."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in `path`; raises `HarpError` where it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise HarpError(f"no file {path}") from None
    except (ValueError, OSError) as error:
        raise HarpError(f"{path} is not readable JSON: {error}") from None


def save_tree(path: Path, tree: Tree) -> None:
    """`path` is a safetensors file with every tensor of `tree` under its dotted name and the rest as JSON metadata.

    Raises `ValueError` where two tensors have the same dotted name.
    """
    tensors, rest = _split(tree)
    data = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomic(path, safetensors.torch.save(data, metadata={"harp": json.dumps(rest, sort_keys=True)}))


def load_tree(path: Path) -> Tree:
    """The tree that `save_tree` wrote, tensors on the CPU; raises `HarpError` for a missing or damaged file.

    A safetensors file from elsewhere is read as a flat mapping from name to tensor.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rest = json.loads(metadata["harp"]) if "harp" in metadata else {"names": {}, "values": {}}
        return _join(tensors, rest)
    except FileNotFoundError:
        raise HarpError(f"no file {path}") from None
    except (safetensors.SafetensorError, ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise HarpError(f"{path} is not a whole safetensors file: {error}") from None


def _split(tree: Tree) -> tuple[dict[str, torch.Tensor], Tree]:
    # Keys may themselves hold dots ("conv.weight"), so the header keeps each tensor's path of keys.
    tensors: dict[str, torch.Tensor] = {}
    paths: dict[str, list[str]] = {}

    def strip(node: Tree, path: tuple[str, ...]) -> Tree:
        kept: Tree = {}
        for key, value in node.items():
            if isinstance(value, torch.Tensor):
                name = ".".join((*path, key))
                if name in tensors:
                    raise ValueError(f"two tensors are named {name!r} once their keys are joined")
                tensors[name], paths[name] = value, [*path, key]
            else:
                kept[key] = strip(value, (*path, key)) if isinstance(value, dict) else value
        return kept

    values = strip(tree, ())
    return tensors, {"names": paths, "values": values}


def _join(tensors: Mapping[str, torch.Tensor], rest: Tree) -> Tree:
    tree: Tree = rest["values"]
    for name, tensor in tensors.items():
        *path, last = rest["names"].get(name, [name])
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = tensor
    return tree


class Metrics:
    """A file of JSON lines, one record per moment, that can be cut back to a step and continued."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The whole records; a last line that a kill cut short is left out."""
        if self.path.exists():
            for line in self.path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    def add(self, record: Mapping[str, Any]) -> None:
        """`record` is the file's last line; a line before it that a kill cut short is gone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")

    def rewind(self, step: int) -> None:
        """Only records up to `step` remain: those after it will be written again by the resumed stage."""
        lines = [json.dumps(record) + "\n" for record in self if record["step"] <= step]
        write_atomic(self.path, "".join(lines).encode())


class Run:
    """A run directory: what is finished in it, and where each stage's files lie.

    Raises `HarpError` where no directory can be there because a file is.
    """

    def __init__(self, folder: Path):
        with _possible(folder):
            blocked = [place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()]
        if blocked:
            raise HarpError(f"{folder} cannot be a run's folder: {blocked[0]} is a file; choose another --folder")
        self.folder = folder
        self._lock = FileLock(folder / ".lock")

    def claim(self) -> None:
        """This process alone works in the folder until `release` or its end; raises `HarpError` where another does."""
        with _possible(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise HarpError(
                f"another process is at work in {self.folder}; wait for it or choose another folder"
            ) from None

    def release(self) -> None:
        """Others may work in the folder again."""
        self._lock.release(force=True)  # each stage claims anew, and the lock counts

    def at(self, stage: str) -> Path:
        return self.folder / stage

    def done(self, stage: str) -> dict[str, Any] | None:
        """What the stage's done-marker says, or None where the stage has not ended."""
        marker = self.at(stage) / "done.json"
        return read_json(marker) if marker.exists() else None

    def finish(self, stage: str, record: Mapping[str, Any]) -> None:
        """The stage is done: its marker, written after all its other files, holds `record`."""
        write_json(self.at(stage) / "done.json", dict(record))


@contextmanager
def _possible(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarpError(f"{folder} cannot be a run's folder: {error.strerror}; choose another --folder") from None


def environment(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside the recipe: harp and its commit, versions, processor, threads."""
    return {
        "harp": VERSION,
        "commit": commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
