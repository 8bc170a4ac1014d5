"""The optimizer of a stage: parameter groups by role."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from harp.errors import HarpError, choices
from harp.pruners import Pruner, Role

NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def companions(model: nn.Module, pruner: Pruner) -> dict[str, Role]:
    """The parameters outside the pruner's sites that train in this stage, by role: norms and, where wanted, others."""
    sites = {id(site.param) for site in pruner.sites}
    norms = {
        id(param): param for module in model.modules() if isinstance(module, NORMS) for param in module.parameters()
    }
    rest = [param for param in model.parameters() if id(param) not in sites]
    named = {"norms": [param for param in rest if id(param) in norms]}
    named["others"] = [param for param in rest if id(param) not in norms]
    trained = {"all": ("norms", "others"), "norms": ("norms",), "none": ()}[pruner.companions]
    return {role: Role(named[role]) for role in trained}


def check_sites(model: nn.Module, pruner: Pruner) -> None:
    """Raises `HarpError` where a site of the pruner is no parameter of `model`."""
    held = {id(param) for param in model.parameters()}
    for site in pruner.sites:
        if id(site.param) not in held:
            raise HarpError(
                f"{site.name} of the {type(pruner).__name__} is no parameter of this {type(model).__name__}, which may "
                "be a copy of the one that was searched for sites; make the pruner from find_sites of this model"
            )


def sgd(
    model: nn.Module,
    pruner: Pruner,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    lrs: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.SGD:
    """SGD over everything that trains in a stage, one group a role: weights, scores, rates, norms, others.

    Roles of the method may have a weight decay or a learning rate of their own; `lrs` are learning rates by role that
    go before either. Raises `HarpError` for a role that nothing trains in, and for a pruner of another network.
    """
    return torch.optim.SGD(_groups(model, pruner, lr, weight_decay, lrs), lr=lr, momentum=momentum)


def adamw(
    model: nn.Module,
    pruner: Pruner,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    lrs: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.AdamW:
    """AdamW, whose decay is apart from the gradient, over the same groups as `sgd`; `momentum` is its first beta."""
    return torch.optim.AdamW(_groups(model, pruner, lr, weight_decay, lrs), lr=lr, betas=(momentum, 0.999))


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def _groups(
    model: nn.Module, pruner: Pruner, lr: float, weight_decay: float, lrs: Mapping[str, float]
) -> list[dict[str, Any]]:
    check_sites(model, pruner)
    roles = {name: role for name, role in {**pruner.trainables(), **companions(model, pruner)}.items() if role.params}
    if strange := sorted(set(lrs) - set(roles)):
        raise HarpError(f"lrs: nothing trains as {strange[0]!r} in this stage; {choices(strange[0], roles)}")
    return [
        {
            "role": name,
            "params": role.params,
            "weight_decay": weight_decay if role.weight_decay is None else role.weight_decay,
            "lr": lrs.get(name, lr * role.lr),
        }
        for name, role in roles.items()
    ]


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate is `factor` times the one it was built with."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = factor * group["initial_lr"]
