"""Masks baked into a plain state dictionary, and the proof that the file is the model that was measured."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.copies import copied
from harp.errors import HarpError
from harp.export.agreement import steady
from harp.modes import evaluating
from harp.runs import file_digest, load_tree, save_tree, write_json
from harp.sparsity import Masks
from harp.wrappers import unwrapped


@precise()
def bake(
    model: nn.Module,
    masks: Masks | None,
    folder: Path | str,
    batches: Iterable[tuple[Tensor, Tensor]],
    blank: nn.Module | None = None,
    counts: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Any]:
    """The manifest of an export: `folder` gets model.safetensors, masks.safetensors and, last, manifest.json.

    model.safetensors is the model's `state_dict`, pruned weights exactly zero, under the model's own names; any
    safetensors reader loads it. It is read back into `blank` (a fresh model of the same class; None takes a copy of
    `model`), which must give bitwise the logits of `model` on `batches`. Of a network from which channels were removed
    `counts` says of each weight how large it was and how large it is; it has `masks` if weights went, too. Raises
    `HarpError` where the logits differ, or where a weight outside the masks is not zero: then the model is not the one
    the masks describe; and, before anything is written, for a network that is random or changes itself in eval mode.
    """
    model = unwrapped(model)
    head, batches = _first(batches)
    steady(model, head)
    folder = Path(folder)
    path, state = folder / "model.safetensors", model.state_dict()
    (folder / "manifest.json").unlink(missing_ok=True)
    _check(masks or {}, state)
    save_tree(path, dict(state))
    if masks is not None:
        save_tree(folder / "masks.safetensors", dict(masks))
    blank = _filled(copied(model) if blank is None else unwrapped(blank), load_tree(path))
    if masks is not None:
        kept, sizes = masks.counts, {name: size for name, (size, _) in (counts or {}).items()}
        counts = {name: (sizes.get(name, mask.numel()), kept[name]) for name, mask in masks.items()}
    counts = counts or {}
    manifest = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": file_digest(path),
        "total": sum(size for size, _ in counts.values()),
        "kept": sum(kept for _, kept in counts.values()),
        "sites": {name: {"size": size, "kept": kept} for name, (size, kept) in counts.items()},
        "checked_images": _same_logits(model, blank, batches),
        "logits_equal": True,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def _check(masks: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        if name not in state or state[name].shape != mask.shape:
            raise HarpError(
                f"the mask {name} fits no weight of the model; masks and model belong to different networks"
            )
        if state[name].masked_select(~mask.to(state[name].device)).any():
            raise HarpError(f"{name} has weights outside its mask; the model is not the pruned one")


def _first(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Iterable[tuple[Tensor, Tensor]]]:
    """The first images, and all batches, which may come only once."""
    rest = iter(batches)
    head = next(rest, None)
    if head is None:
        raise HarpError("no images to compare the exported file's logits on; expected at least one batch")
    return head[0], chain([head], rest)


def _filled(blank: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    try:
        blank.load_state_dict(state)
    except Exception as error:  # hooks that a network brings may raise anything
        line = " ".join(str(error).split())
        # torch's remove_spectral_norm leaves a hook behind that asks for tensors that are gone.
        raise HarpError(
            f"the exported file does not load into a network of the same class: {line[:300]}; expected `blank`, the "
            "network built anew, or, where a weight was computed from others, harp.plain(model)"
        ) from error
    return blank


@torch.no_grad()
def _same_logits(first: nn.Module, second: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    checked = 0
    with evaluating(first), evaluating(second):
        for x, _ in batches:
            if not torch.equal(first(x), second(x)):
                raise HarpError("the exported file does not give the logits of the model that was evaluated")
            checked += len(x)
    return checked
