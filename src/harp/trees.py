"""Nested values with tensors in them as one safetensors file, under a digest.

Nothing here is pickled. Tensors go by dotted name, everything else is JSON in the file's header, so that both are
replaced in one atomic rename and can never disagree. The header also holds a SHA-256 over all of it, which tells a
flipped byte; files from elsewhere, and those of versions that wrote none, are taken without.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from harp.errors import HarpError
from harp.files import DamagedError, checked, write_atomic

Tree = dict[str, Any]  # nested dictionaries with str keys, whose leaves are tensors or JSON values


def save_tree(path: Path, tree: Tree) -> None:
    """`path` is a safetensors file with every tensor of `tree` under its dotted name and the rest as JSON metadata.

    Raises `ValueError` where two tensors have the same dotted name, and `HarpError` as `write_atomic` does.
    """
    tensors, rest = _split(tree)
    data = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    # One entry of metadata: safetensors writes several in any order, and the same tree must give the same bytes.
    metadata = {"harp": _text({**rest, "digest": _seal(data, rest)})}
    write_atomic(path, safetensors.torch.save(data, metadata=metadata))


def load_tree(path: Path, kind: Any = None) -> Tree:
    """The tree that `save_tree` wrote, tensors on the CPU; raises `DamagedError` for a missing or damaged file.

    A safetensors file from elsewhere is read as a flat mapping from name to tensor. With a `kind`, the tree must be a
    value of that type, as for `harp.files.checked`.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rest = json.loads(metadata["harp"]) if "harp" in metadata else {"names": {}, "values": {}}
        sealed = rest.pop("digest", None)
        if rest.keys() != {"names", "values"}:
            raise ValueError("its header is not as it was written")
        whole = sealed is None or sealed == _seal(tensors, rest)
        tree = _join(tensors, rest)
    except FileNotFoundError:
        raise DamagedError(path, f"no file {path}") from None
    except (
        *(safetensors.SafetensorError, ValueError, OSError, KeyError, TypeError),
        *(AttributeError, RecursionError, RuntimeError),
    ) as error:
        raise DamagedError(path, f"{path} is not a whole safetensors file: {error}") from None
    if not whole:
        raise DamagedError(path, f"{path} is not a whole safetensors file: its content is not what was written there")
    if kind is not None:
        checked(path, tree, kind)
    return tree


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in `path` by name; errors as by `load_tree`, and `HarpError` for a file with more in it."""
    tree = load_tree(path)
    for name, value in tree.items():
        if not isinstance(value, torch.Tensor):
            raise HarpError(
                f"{path} holds more than tensors: {name} in it is none; expected weights or masks by name, and no "
                "checkpoint of a run"
            )
    return tree


def digest(tensors: Mapping[str, Any]) -> str:
    """The SHA-256 (64 hex digits) of the tensors among these values, with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, torch.Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            # One entry may lie anywhere and still be called contiguous, with a stride that no view as bytes takes.
            flat = value.detach().cpu().contiguous().as_strided((value.numel(),), (1,))
            found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


def tree_digest(tree: Tree) -> str:
    """The SHA-256 (64 hex digits) of everything in a tree that `save_tree` could write."""
    return _seal(*_split(tree))


def _seal(tensors: Mapping[str, torch.Tensor], rest: Tree) -> str:
    return hashlib.sha256((digest(tensors) + _text(rest)).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


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
