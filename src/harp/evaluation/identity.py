"""What a record is of: a network, what it was asked, and by which code."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from torch import nn

from harp.attacks import Attack, Cascade
from harp.evaluation.code import code_of
from harp.evaluation.expected import draws_of, single
from harp.runs import digest
from harp.threats import Threat
from harp.version import VERSION


def identity_of(model: nn.Module, *more: object) -> dict[str, Any]:
    """What tells a network's answers from another's: digests of its weights and of the code that it and `more` run."""
    code, reached = code_of([model, *more])
    states = [network.state_dict() for network in (model, *(one for one in reached if one is not model))]
    held = {f"{place} {name}": value for place, state in enumerate(states[1:]) for name, value in state.items()}
    whole = digest({**states[0], **held})
    return {"model": whole, "code": code, "version": {"harp-pruning": VERSION, "torch": version("torch")}}


def asked_of(model: nn.Module, attacks: Mapping[str, Attack], threat: Threat, seed: int) -> dict[str, Any]:
    """All that decides the verdicts of an evaluation, as JSON values."""
    return {
        **identity_of(single(model), *attacks.values()),
        **({"draws": draws} if (draws := draws_of(model)) > 1 else {}),
        "threat": repr(threat),
        # Where an object lies in memory is no setting.
        "attacks": {name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(attack)) for name, attack in attacks.items()},
        "cascade": isinstance(attacks, Cascade),
        "seed": seed,
    }
