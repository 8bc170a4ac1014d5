"""The optimiser of a stage: parameter groups by role."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from harp.errors import HarpError
from harp.pruners import Pruner

NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def companions(model: nn.Module, pruner: Pruner) -> dict[str, list[nn.Parameter]]:
    """The parameters outside the pruner's sites that train in this stage, by role: norms and, where wanted, others."""
    sites = {id(site.param) for site in pruner.sites}
    norms = {
        id(param): param for module in model.modules() if isinstance(module, NORMS) for param in module.parameters()
    }
    rest = [param for param in model.parameters() if id(param) not in sites]
    roles = {"norms": [param for param in rest if id(param) in norms]}
    if pruner.companions == "all":
        roles["others"] = [param for param in rest if id(param) not in norms]
    return roles


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
    rate_weight_decay: float | None = None,
) -> torch.optim.SGD:
    """SGD over everything that trains in a stage, one group a role: weights, scores, rates, norms, others.

    `rate_weight_decay` is the decay of HARP's rates alone; None is the method's own: `weight_decay` in mode penalty, as
    published, and 0 in mode exact. It shapes the rates (METHODS 1.11): alone it pulls every layer towards one half.
    Raises `HarpError` for a pruner of another network.
    """
    check_sites(model, pruner)
    roles = {**pruner.trainables(), **companions(model, pruner)}
    decays = {**pruner.decays(), **({} if rate_weight_decay is None else {"rates": rate_weight_decay})}
    groups = [
        {"role": role, "params": params, "weight_decay": decays.get(role, weight_decay)}
        for role, params in roles.items()
        if params
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def set_lr(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate is `factor` times the one it was built with."""
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = factor * group["initial_lr"]
