"""The prunable parameters of a module, found by what they are and chosen by selectors."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harp.errors import HarpError
from harp.modes import evaluating
from harp.sparsity.places import Place
from harp.sparsity.selectors import Candidate, select
from harp.wrappers import unwrapped

# By name over all base classes, because foreign libraries write their own: ConvNeXt V2's GRN has a weight of four axes.
_NOT_PRUNED = re.compile(r".*(Norm|GRN|Embedding)(Bag|Base|\d*d)?")


@dataclass(frozen=True, eq=False)
class Site:
    """One prunable parameter: its name as in `state_dict`, and which axes hold its outputs and inputs.

    Transposed convolutions and the `Conv1D` of `transformers` store inputs first: `in_axis` 0, `out_axis` 1. With
    groups a convolution's `in_axis`, and a transposed convolution's `out_axis`, holds the channels of one group.
    `place` is where the network has it, None where nobody said.
    """

    name: str
    param: nn.Parameter
    out_axis: int = 0
    in_axis: int = 1
    place: Place | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.param.numel()


Sites = tuple[Site, ...]


def checked(sites: object) -> Sites:
    """The sites as they are; raises `HarpError` for anything else, the network itself before all."""
    if isinstance(sites, nn.Module):
        name = type(sites).__name__
        raise HarpError(f"expected the sites of a network, got the {name} itself; harp.find_sites(model) gives them")
    found = tuple(sites) if isinstance(sites, Iterable) else (sites,)
    strange = [type(site).__name__ for site in found if not isinstance(site, Site)]
    if strange:
        raise HarpError(f"expected sites as harp.find_sites(model) gives them, got {strange[0]}")
    return found


def find_sites(model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Sites:
    """The prunable weights of any module, in definition order, a tied weight once and under its first name.

    Prunable is every parameter of two or more axes whose own name ends in `weight` (`weight`, `in_proj_weight`), but
    in embeddings and normalisation layers: so convolutions and linear layers of whatever class, 1x1 shortcuts, the
    first and the last layer (METHODS 1.5); not biases, position tables, class tokens or recurrent layers. Only those
    that `include` selects where it is not empty, and none that `exclude` selects.

    A selector is the name of a weight, or of a module for all in it (`layer1.0`); either as a glob (`layer?`,
    `*.conv1`; `*` crosses dots); `class:Linear` for the weights of that class and its subclasses; or `re:PATTERN`,
    searched in the name. A tied weight answers to each of its names.

    A frozen weight (requires_grad False) is prunable only where `include` names it: by its own name or that of the
    layer that holds it, in full (`find_frozen` has the others).

    A wrapper (`DataParallel`, `torch.compile`) is passed over. Raises `HarpError` for a TorchScript network, for a
    selector that matches nothing or is no regular expression, where no weight is left or all that are left are frozen,
    and for a selected weight that is parametrised or not initialised yet.
    """
    chosen, frozen = _chosen(model, include, exclude)
    if not chosen:
        name = frozen[0].names[0]
        raise HarpError(
            f"no weight of {type(model).__name__} may be pruned: all {len(frozen)} that are selected are frozen "
            f"(requires_grad False); unfreeze some, or name them in full (include {name!r})"
        )
    return tuple(_site(candidate) for candidate in chosen)


def find_frozen(model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the weights that `find_sites` would take were they not frozen; raises what it raises."""
    return tuple(candidate.names[0] for candidate in _chosen(model, include, exclude)[1])


def find_weights(model: nn.Module) -> Sites:
    """Every weight of a kind that can be pruned, selected or not, frozen or not; those computed from others left out.

    This is what counts as a weight wherever weights are counted. None at all is an empty tuple.
    """
    return tuple(_site(found) for found in _candidates(model) if found.parameter is not None)


def check_weights(model: nn.Module) -> None:
    """Raises `HarpError` where there is no weight at all, or one is parametrised or not initialised yet."""
    candidates = list(_candidates(model))
    if not candidates:
        raise HarpError(f"{type(model).__name__} has no weight to prune")
    for candidate in candidates:
        _site(candidate)


def _chosen(
    model: nn.Module, include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[Candidate], list[Candidate]]:
    """The selected weights, and apart those that are left alone because they are frozen."""
    candidates = list(_candidates(model))
    if not candidates:
        raise HarpError(f"{type(model).__name__} has no weight to prune")
    chosen = select(candidates, include, exclude)
    frozen = [found for found in chosen if found.frozen and not found.named(include)]
    return [found for found in chosen if found not in frozen], frozen


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    model = unwrapped(model)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        name = type(model).__name__
        raise HarpError(f"{name} is TorchScript, which is fixed as it is; prune the module it was made from")
    found: dict[object, Candidate] = {}
    # With duplicates: a module under two names answers to both.
    for path, module in model.named_modules(remove_duplicate=False):
        kinds = [kind.__name__ for kind in type(module).__mro__]
        layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        if not layer and any(_NOT_PRUNED.fullmatch(kind) for kind in kinds):
            continue
        for own, parameter in _weights(module):
            key = (id(module), own) if parameter is None else id(parameter)
            candidate = found.setdefault(key, Candidate(parameter, module))
            candidate.names.append(f"{path}.{own}" if path else own)
            candidate.kinds.update(kinds)
    yield from found.values()


def _weights(module: nn.Module) -> Iterator[tuple[str, nn.Parameter | None]]:
    """The module's own weights by name; None where one is computed from other parameters."""
    for own, parameter in module._parameters.items():
        if parameter is not None and own.endswith("weight") and (is_lazy(parameter) or parameter.dim() > 1):
            yield own, parameter
    # torch's parametrisations by name; its older weight_norm leaves weight_v, spectral_norm and prune weight_orig.
    computed = dict.fromkeys(getattr(module, "parametrizations", ()))
    computed |= dict.fromkeys(re.sub("_(orig|v)$", "", own) for own in module._parameters)
    for own in computed:
        if not own.endswith("weight") or own in module._parameters:
            continue
        # In eval mode: spectral norm moves its vectors whenever its weight is looked at in training.
        with evaluating(module), torch.no_grad():
            value = getattr(module, own, None)
        if isinstance(value, Tensor) and value.dim() > 1:
            yield own, None


def _site(candidate: Candidate) -> Site:
    name, parameter, module = candidate.names[0], candidate.parameter, candidate.module
    if parameter is None:
        raise HarpError(
            f"{name} is parametrised: it is computed from other parameters in every forward pass; prune "
            "harp.plain(model), a copy with weights of its own, or exclude it"
        )
    if is_lazy(parameter):
        raise HarpError(f"{name} is not initialised yet; run one batch through the lazy {type(module).__name__} first")
    place = Place(module, name.rpartition(".")[2])
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    # GPT-2's linear layer: [in, out], with the number of outputs in nf.
    if transposed or ("Conv1D" in candidate.kinds and hasattr(module, "nf")):
        return Site(name, parameter, out_axis=1, in_axis=0, place=place)
    return Site(name, parameter, place=place)
