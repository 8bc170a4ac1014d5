"""The verdicts of one evaluation, kept batch by batch, so that what a kill interrupts goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.evaluation.answers import same_answers
from harp.runs import Tree, digest, file_word, load_tree, read_json, save_tree, write_json
from harp.seals import read_sealed

IDENTITY = "asked.json"
RESULT = "result.json"
FORMAT = 2
STAMP = "stamp"


class Record:
    """A folder of finished batches, or, without a folder, memory alone.

    `asked` is all that decides the verdicts, as JSON values; None: what the folder says. Each batch's file carries its
    measure, its place, the record it belongs to and a digest of itself. Raises `HarpError` where the folder holds the
    record of something else, naming what differs, one whose result is sealed and no longer true, or no record.
    """

    def __init__(self, folder: Path | None, asked: Mapping[str, Any] | None):
        self.folder = folder
        self._memory: dict[str, Tree] = {}
        self.asked: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **(asked or {})}))
        if folder is None:
            return
        path = folder / IDENTITY
        if asked is None or path.exists():
            self.asked = _same(folder, read_json(path), None if asked is None else self.asked)
            if (folder / RESULT).exists():
                read_sealed(folder / RESULT)
        elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise HarpError(f"{folder} holds files but no record of an evaluation; choose an empty folder")
        else:
            write_json(path, self.asked)

    def get(self, measure: str, index: int) -> Tree | None:
        """What `put` kept of the batch, or None; raises `HarpError` where the file is not what `put` wrote there."""
        if self.folder is None:
            return self._memory.get(_name(measure, index))
        path = self.folder / _name(measure, index)
        if not path.exists():
            return None
        tree = load_tree(path)
        if tree.pop(STAMP, None) != self._stamp(measure, index, tree):
            raise HarpError(
                f"{path} is not what this evaluation wrote there, but changed or from elsewhere; delete {self.folder} "
                "and evaluate anew"
            )
        return tree

    def put(self, measure: str, index: int, tree: Tree) -> None:
        """The batch is finished: `tree` is kept, whole or not at all."""
        if self.folder is None:
            self._memory[_name(measure, index)] = tree
        else:
            stamp = self._stamp(measure, index, tree)
            save_tree(self.folder / _name(measure, index), {**tree, STAMP: stamp})

    def check(self, index: int, images: Tensor, answers: Tree) -> None:
        """Raises `HarpError` where batch `index` was recorded with other images, or by a network of other answers.

        `images` are fingerprints, `answers` what an `Asker` hears from the network now. Where it heard two answers to
        one question when the record was made, nothing can be told by them.
        """
        before = self.get("clean", index)
        if before is None:
            return
        if not torch.equal(before["images"], images):
            raise HarpError(
                f"{self.folder} holds a record of other images, or of these in another order; choose another folder"
            )
        if not before["random"] and (answers["random"] or not same_answers(before, answers)):
            raise HarpError(f"{self.folder} holds the record of another model; choose another folder")

    def _stamp(self, measure: str, index: int, tree: Tree) -> dict[str, Any]:
        rest = {name: value for name, value in tree.items() if not isinstance(value, Tensor)}
        words = json.dumps([self.asked, rest], sort_keys=True)
        whole = hashlib.sha256(f"{measure} {index} {digest(tree)} {words}".encode()).hexdigest()
        return {"measure": measure, "index": index, "digest": whole}


def _name(measure: str, index: int) -> str:
    return f"{file_word('an attack', measure)}-{index:05d}.safetensors"


def _same(folder: Path, before: Any, now: Mapping[str, Any] | None) -> dict[str, Any]:
    if not isinstance(before, dict) or before.get("format") != FORMAT:
        raise HarpError(
            f"{folder} holds a record that another version of harp made, in another form; choose another folder"
        )
    if now is None:
        return before
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        if name == "code":
            what = ", ".join(sorted({key for key, _ in {*before[name].items()} ^ {*now[name].items()}}))
            raise HarpError(f"{folder} holds the record of another code, of {_short(what)}; choose another folder")
        raise HarpError(
            f"{folder} holds the record of another {name}: {_short(json.dumps(before.get(name)))} there, "
            f"{_short(json.dumps(now.get(name)))} asked for; choose another folder"
        )
    return before


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
