"""Results that notice it when what they were made from, or they themselves, were changed afterwards.

A seal has no key: whoever wants to deceive can compute it anew. It is against accident and carelessness: a file
swapped, an old one copied back, a number mended by hand.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harp.errors import HarpError
from harp.runs import file_digest, read_json, write_json

SEAL = "seal"


def write_sealed(path: Path, values: Mapping[str, Any], files: Iterable[str]) -> None:
    """`path` holds `values` as JSON and, under "seal", digests of them and of `files`, which lie beside it.

    Another safetensors file in that folder later on is as wrong as one that is missing.
    """
    digests = {name: file_digest(path.parent / name) for name in sorted(files)}
    write_json(path, {**values, SEAL: {"values": _digest(values), "files": digests}})


def read_sealed(path: Path) -> dict[str, Any]:
    """The values that `write_sealed` wrote, where they and their files are as they were then.

    Raises `HarpError` where `path` is missing, has no seal, or where anything was changed, naming it.
    """
    found: Any = read_json(path)
    seal = found.pop(SEAL, None) if isinstance(found, dict) else None
    if not isinstance(seal, dict) or not isinstance(seal.get("files"), dict):
        raise HarpError(f"{path} carries no seal: another version of harp wrote it, or somebody else; {_out(path)}")
    if seal.get("values") != _digest(found):
        raise HarpError(f"{path} was changed after it was written; {_out(path)}")
    for name, digest in seal["files"].items():
        _check(path, path.parent / name, digest)
    others = {file.name for file in path.parent.glob("*.safetensors")} - seal["files"].keys()
    if others:
        raise HarpError(f"{path.parent / min(others)} is no part of what {path} was made from; {_out(path)}")
    values: dict[str, Any] = found
    return values


def _check(path: Path, part: Path, digest: Any) -> None:
    if not part.is_file():
        raise HarpError(f"{part} is gone, and {path} was made from it; {_out(path)}")
    if file_digest(part) != digest:
        raise HarpError(f"{part} was changed after {path} was made from it; {_out(path)}")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _out(path: Path) -> str:
    return f"delete {path.parent} and evaluate anew"
