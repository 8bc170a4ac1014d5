"""The verdicts of one evaluation, kept batch by batch, so that what a kill interrupts goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harp.errors import HarpError
from harp.runs import Tree, load_tree, read_json, save_tree, write_json

IDENTITY = "asked.json"
RESULT = "result.json"


class Record:
    """A folder of finished batches, or, without a folder, memory alone.

    `asked` is all that decides the verdicts, as JSON values. Raises `HarpError` where the folder holds the record of
    something else, naming what differs, or files that are no record.
    """

    def __init__(self, folder: Path | None, asked: Mapping[str, Any]):
        self.folder = folder
        self._memory: dict[str, Tree] = {}
        if folder is None:
            return
        path, now = folder / IDENTITY, json.loads(json.dumps(asked))
        if path.exists():
            _same(folder, read_json(path), now)
        elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise HarpError(f"{folder} holds files but no record of an evaluation; choose an empty folder")
        else:
            write_json(path, now)

    def get(self, measure: str, index: int) -> Tree | None:
        """What `put` kept of the batch, or None."""
        if self.folder is None:
            return self._memory.get(_name(measure, index))
        path = self.folder / _name(measure, index)
        return load_tree(path) if path.exists() else None

    def put(self, measure: str, index: int, tree: Tree) -> None:
        """The batch is finished: `tree` is kept, whole or not at all."""
        if self.folder is None:
            self._memory[_name(measure, index)] = tree
        else:
            save_tree(self.folder / _name(measure, index), tree)

    def check(self, index: int, data: str, logits: torch.Tensor) -> None:
        """Raises `HarpError` where batch `index` was recorded with other images, or by a network of other logits.

        `data` is a digest of the images and labels, `logits` what the network says of them now: compared to 1e-3 of
        the largest, since another machine or thread count rounds otherwise.
        """
        before = self.get("clean", index)
        if before is None:
            return
        if before["data"] != data:
            raise HarpError(f"{self.folder} holds a record of other images; choose another folder")
        there = before["logits"].to(logits)
        if there.shape != logits.shape or not torch.allclose(
            there, logits, rtol=0, atol=1e-3 * _size(there), equal_nan=True
        ):
            raise HarpError(f"{self.folder} holds the record of another model; choose another folder")


def digest(tensors: Mapping[str, Any]) -> str:
    """The SHA-256 (64 hex digits) of the tensors among these values, with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, torch.Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _size(logits: torch.Tensor) -> float:
    finite = logits[logits.isfinite()]
    return max(1e-6, float(finite.abs().max())) if len(finite) else 1.0


def _name(measure: str, index: int) -> str:
    return f"{measure}-{index:05d}.safetensors"


def _same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise HarpError(
                f"{folder} holds the record of another {name}: {_short(before.get(name))} there, "
                f"{_short(now.get(name))} asked for; choose another folder"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
