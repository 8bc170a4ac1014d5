"""How training scripts lay out their checkpoints: one function each, from what the file holds to plain weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from harp.errors import HarpError
from harp.networks.renaming import few
from harp.sparsity import top_mask

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
WRAPPERS = ("module.", "_orig_mod.", "model.")
FLOOR = 0.1  # HARP's smallest rate, as a share of the density it was pruned to (METHODS 1.2)
_AVERAGED = "n_averaged"
_SCORES, _RATE = "popup_scores", "k_score"
_PARTNER = {"mean": "std", "mu": "sigma", "new_mean": "new_std"}
_NORMALISES = re.compile(r"((?:normali[sz]e|normali[sz]er|normali[sz]ation|norm|\d+)\.)?(mean|mu|new_mean)")


@dataclass(frozen=True)
class Asked:
    """What a checkpoint is read for: its file, the density it was pruned to, and the network's own names."""

    origin: str
    keep: float | None
    own: frozenset[str]


@dataclass(frozen=True)
class Content:
    """What is known of a checkpoint so far; `masks` are by the names of the weights in `tensors`."""

    tensors: Mapping[str, Tensor]
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Statistics | None = None
    scored: bool = False
    notes: tuple[str, ...] = ()


def _unwrapped(content: Content, asked: Asked) -> Content:
    """Names without what `DataParallel`, `torch.compile`, `AveragedModel` and holders of a `model` put before all."""
    tensors = dict(content.tensors)
    if _AVERAGED not in asked.own:
        tensors.pop(_AVERAGED, None)
    while prefix := next((word for word in WRAPPERS if tensors and all(n.startswith(word) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return replace(content, tensors=tensors)


def _normalisation(content: Content, asked: Asked) -> Content:
    """Mean and standard deviation of the images, which RobustBench and others keep beside the network."""
    tensors = dict(content.tensors)
    for name in content.tensors:
        found = _NORMALISES.fullmatch(name)
        partner = f"{found[1] or ''}{_PARTNER[found[2]]}" if found else ""
        if partner not in tensors or name in asked.own:
            continue
        mean, std = (tuple(tensors.pop(each).float().flatten().tolist()) for each in (name, partner))
        told = f"images are normalised inside the network, by {name} and {partner} of the file"
        return replace(content, tensors=tensors, statistics=(mean, std), notes=(*content.notes, told))
    return content


def _torch_pruning(content: Content, asked: Asked) -> Content:
    """`torch.nn.utils.prune`: X_orig times X_mask is X."""
    tensors, masks = dict(content.tensors), dict(content.masks)
    for name in [name for name in tensors if name.endswith("_orig")]:
        plain = name.removesuffix("_orig")
        bits = tensors.pop(f"{plain}_mask", None)
        if bits is None:
            continue
        value = tensors[name]
        if bits.shape != value.shape or not ((bits == 0) | (bits == 1)).all():
            raise HarpError(f"{asked.origin}: {plain}_mask is no mask of zeros and ones in the shape of {name}")
        masks[plain] = bits != 0
        # Under the place of the weight, for the order of names may tell whose it is.
        tensors = {plain if key == name else key: entry for key, entry in tensors.items()}
        tensors[plain] = value.where(masks[plain], 0)
    return replace(content, tensors=tensors, masks=masks)


def _published_scores(content: Content, asked: Asked) -> Content:
    """HYDRA and HARP (METHODS 1.2, 1.3, 2.1): a weight, its scores, and with HARP the rate its layer learned."""
    tensors, masks = dict(content.tensors), dict(content.masks)
    scores = {name.removesuffix(_SCORES): tensors.pop(name) for name in content.tensors if _ends(name, _SCORES)}
    rates = {name.removesuffix(_RATE): tensors.pop(name) for name in content.tensors if _ends(name, _RATE)}
    if not scores:
        return content
    if asked.keep is None:
        raise HarpError(
            f"{asked.origin} holds scores, {few(f'{layer}{_SCORES}' for layer in scores)}, and not the density that "
            "it was pruned to; keep says it, 0.01 for 99 % sparsity, and 1 takes the network dense"
        )
    if not 0 < asked.keep <= 1:
        raise HarpError(f"keep {asked.keep:g}: expected a share above 0 and at most 1")
    for layer, score in scores.items():
        weight = tensors.get(f"{layer}weight")
        if weight is None:
            raise HarpError(f"{asked.origin}: {layer}{_SCORES} has no {layer}weight beside it")
        if asked.keep < 1:
            rate = _rate(rates, layer, asked.keep, asked.origin)
            masks[f"{layer}weight"] = mask = _mask(weight, score, rate, asked.origin, layer)
            tensors[f"{layer}weight"] = weight.where(mask, 0)
    how = f"{'HARP' if rates else 'HYDRA'}'s scores of {len(scores)} layers, at density {asked.keep:g}"
    return replace(content, tensors=tensors, masks=masks, scored=True, notes=(*content.notes, how))


def _ends(name: str, word: str) -> bool:
    return name.rpartition(".")[2] == word


def _rate(rates: Mapping[str, Tensor], layer: str, keep: float, origin: str) -> float | Tensor:
    """The layer's share: as asked for, or HARP's as its authors compute it, in float32."""
    if not rates:
        return keep
    rate = rates.get(layer)
    if rate is None or rate.numel() != 1 or not rate.float().isfinite().all():
        raise HarpError(f"{origin}: expected one finite number as {layer}{_RATE}, for other layers have theirs")
    floor = FLOOR * keep
    return floor + (1 - floor) * rate.float().reshape(()).sigmoid()


def _mask(weight: Tensor, score: Tensor, rate: float | Tensor, origin: str, layer: str) -> Tensor:
    """Rounded up as the authors round, which in floating point is at times one more."""
    size = score.numel()
    if score.shape == weight.shape:
        kept = size - int((1 - rate) * size)
    elif list(score.shape) == [1, *weight.shape[1:2], *[1] * (weight.ndim - 2)] and isinstance(rate, Tensor):
        kept = round(float(rate * size))  # HARP's input channels
    else:
        shapes = f"{list(score.shape)}; expected the shape of its weight, {list(weight.shape)}"
        raise HarpError(f"{origin}: {layer}{_SCORES} is {shapes}")
    return top_mask(score.abs(), kept).expand_as(weight).clone()


Layout = Callable[[Content, Asked], Content]
LAYOUTS: tuple[Layout, ...] = (_unwrapped, _normalisation, _unwrapped, _torch_pruning, _published_scores)
"""In this order: what normalises stands beside the wrapped network, so that only then all names begin alike."""
