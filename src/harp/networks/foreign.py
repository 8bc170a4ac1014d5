"""Networks made elsewhere: a checkpoint of somebody else's training script as a state dictionary of ours.

Files are read as data: safetensors, or torch's pickles through its own reader of plain tensors
(`torch.load(weights_only=True)`), which imports and calls nothing a file asks for.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.errors import HarpError
from harp.models import Logits, Normalised
from harp.networks.layouts import LAYOUTS, Asked, Content, Statistics
from harp.networks.renaming import BATCHES, few, match_names
from harp.runs import load_tensors
from harp.sparsity import Masks, find_weights
from harp.wrappers import unwrapped

NESTED = ("state_dict", "model_state_dict", "model", "net")
_DEEPEST = 4
_REPEATED = (
    16  # times that a file's bytes may stand in tensors: tied weights share theirs, expanded buffers repeat them
)


@dataclass(frozen=True)
class Foreign:
    """A checkpoint under the names of `network`: its state, pruned weights at zero, and masks where the file has some.

    `network` is the model it was read for or, where the file normalises images, that model in a `Normalised` with the
    file's `statistics`; `notes` say what was done beside copying.
    """

    network: nn.Module
    state: Mapping[str, Tensor]
    masks: Masks | None = None
    statistics: Statistics | None = None
    notes: tuple[str, ...] = field(default=())


@pinned()
def read_foreign(path: Path | str, model: nn.Module, keep: float | None = None) -> Foreign:
    """The checkpoint in `path` as weights of `model`, which is left as it is; nothing in the file is executed.

    The state holds every name of the network's own, in the network's dtypes, on the CPU; the masks cover all its
    weights (`find_weights`). `keep` is the share that a network with pruning scores (HYDRA, HARP) was pruned to; 1
    takes it dense. Raises `HarpError` for a file that is missing, damaged or asks for code, for names that cannot be
    matched one to one, for scores without `keep` or `keep` without scores, and for values that are not finite.
    """
    path, model = Path(path), unwrapped(model)
    inner = model.model if isinstance(model, Logits) else model
    ours = inner.state_dict()
    tensors, ordered = _read(path)
    asked = Asked(str(path), keep, frozenset(ours))
    content = Content(tensors)
    for layout in LAYOUTS:
        content = layout(content, asked)
    if keep is not None and not content.scored:
        raise HarpError(f"keep {keep:g}: {path} holds no pruning scores for it to choose weights by; leave it out")
    names = match_names(content.tensors, ours, ordered, str(path))
    notes = [*content.notes, *_told(names, ours)]
    state = {name: _converted(content.tensors, names.get(name), name, own, path) for name, own in ours.items()}
    network = _outside(model, content.statistics, path)
    if network is not model or isinstance(model, Logits):
        outer = {name: value.cpu() for name, value in network.state_dict().items() if name in ("mean", "std")}
        state = {**outer, **{f"model.{name}": value for name, value in state.items()}}
    return Foreign(network, state, _masks(content, names, network, path), content.statistics, tuple(notes))


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors in the file by name, and whether they stand there as the network was defined."""
    if not path.is_file():
        raise HarpError(f"no file {path}")
    with open(path, "rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # the length of a header in JSON, then the header
        return load_tensors(path), False
    _check_records(path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise HarpError(
                f"{path} is no whole file of tensors; expected safetensors or what torch.save wrote"
            ) from None
        raise HarpError(
            f"{path} asks for {wanted[1]}, and code of a file is never run; expected tensors alone, as "
            "torch.save(model.state_dict(), ...) writes them"
        ) from None
    # A damaged file can raise nearly anything.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise HarpError(
            f"{path} is no file of tensors; expected safetensors or what torch.save wrote ({said})"
        ) from None
    return _opened(value, path), True


def _check_records(path: Path) -> None:
    """Raises `HarpError` for an archive whose records are more than the file, as torch.save makes none.

    torch's reader inflates whatever a record's header says, however much that is.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries, comment = archive.infolist(), archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # damaged, which torch's reader tells
    # A comment, or room before the first record, is where a second list of records could hide for torch's reader.
    hidden = bool(comment) or min((entry.header_offset for entry in entries), default=0) > 0
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if hidden or packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise HarpError(
            f"{path} holds records that are compressed, hidden or larger than itself; expected them as torch.save "
            "writes them"
        )


def _opened(value: Any, path: Path) -> dict[str, Tensor]:
    """The state dictionary in what a training script saved around it."""
    for _ in range(_DEEPEST):
        inside = [name for name in NESTED if isinstance(value, Mapping) and isinstance(value.get(name), Mapping)]
        if not inside:
            break
        if len(inside) > 1:
            raise HarpError(f"{path} holds several networks, {few(inside)}; expected one of them in a file of its own")
        value = value[inside[0]]
    if not isinstance(value, Mapping) or not value:
        raise HarpError(f"{path} holds a {type(value).__name__}; expected a state dictionary, tensors by name")
    strange = [str(name) for name, entry in value.items() if not isinstance(name, str) or not _plain(entry)]
    if strange:
        places = ", ".join(NESTED)
        raise HarpError(
            f"{path} holds {few(strange)}, which is no plain tensor; expected a state dictionary, alone or as one of "
            f"{places}"
        )
    size = sum(entry.numel() * entry.element_size() for entry in value.values())
    if size > _REPEATED * path.stat().st_size:
        raise HarpError(f"{path} names tensors of {size:,} bytes, many times its own size; expected what it holds")
    return {name: entry.detach() for name, entry in value.items()}


def _plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized and not value.is_meta


def _told(names: Mapping[str, str], ours: Mapping[str, Tensor]) -> list[str]:
    moved = [(names[name], name) for name in ours if names.get(name, name) != name]
    notes = []
    if moved:
        (first, here), (last, there) = moved[0], moved[-1]
        told = f"{len(moved)} of {len(names)} names differ, from {first} = {here} to {last} = {there}"
        notes.append(f"{told}; equal shapes are no proof, so compare the accuracy with what was published")
    if len(names) < len(ours):
        notes.append(f"{len(ours) - len(names)} {BATCHES} are not in the file and begin at 0")
    return notes


def _converted(tensors: Mapping[str, Tensor], other: str | None, name: str, own: Tensor, path: Path) -> Tensor:
    """The tensor `other` as the network's own `own`."""
    if other is None:
        return torch.zeros_like(own, device="cpu")
    value = tensors[other]
    if value.is_complex() or value.is_floating_point() != own.is_floating_point():
        raise HarpError(f"{path}: {other} holds {value.dtype}; {name} is {own.dtype}")
    if not torch.isfinite(value.float()).all():
        raise HarpError(f"{path}: {other} holds NaN or infinite numbers")
    return value.to(own.dtype).clone(memory_format=torch.contiguous_format)


def _outside(model: nn.Module, statistics: Statistics | None, path: Path) -> nn.Module:
    """The network with the file's normalisation in front; `HarpError` where it has another one already."""
    if statistics is None:
        return model
    if not isinstance(model, Normalised):
        return Normalised(model, *statistics)
    given = tuple(tuple(value.flatten().tolist()) for value in (model.mean, model.std))
    if given != statistics:
        raise HarpError(
            f"{path} was trained with mean {list(statistics[0])} and std {list(statistics[1])}, not {list(given[0])} "
            f"and {list(given[1])}; leave mean and std to the file"
        )
    return model


def _masks(content: Content, names: Mapping[str, str], network: nn.Module, path: Path) -> Masks | None:
    """The file's masks for all weights of the network, full where the file has none for one; None if it has none."""
    if not content.masks:
        return None
    prefix = "model." if isinstance(network, Logits) else ""
    known = {f"{prefix}{name}": content.masks[other] for name, other in names.items() if other in content.masks}
    sites = {site.name: site.param.shape for site in find_weights(network)}
    cut = [name for name, mask in known.items() if name not in sites and not mask.all()]
    if cut:
        raise HarpError(f"{path} masks {few(cut)}, which is no weight that can be pruned")
    return Masks({name: known.get(name, torch.ones(shape, dtype=torch.bool)) for name, shape in sites.items()})
