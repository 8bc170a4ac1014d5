"""Many images attacked side by side in a batch that stays full: one that is decided makes room for one that waits."""

from typing import Protocol

import torch
from torch import Tensor, nn

from harp.attacks.losses import wrong
from harp.attacks.surrogate import judge
from harp.modes import evaluating, frozen
from harp.randomness import Keyed, Noise, per_image

State = dict[str, Tensor]
"""What an attack knows of the points (images) under way: a table, one row a point, each column a tensor [n, ...]."""


class Search(Protocol):
    """One attack on one network under one threat, step by step."""

    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        """What is known of new points `x` (with labels `y`) before their first step."""

    def step(self, state: State) -> State:
        """The same points, in the same order, one step on.

        The state that is returned has, beside the attack's own columns, `adv` [n, c, h, w], an image for each point;
        `found` bool [n], whether the attack takes that for adversarial (it is inside the threat then); and `spent`
        bool [n], whether nothing is left to try.
        """


def sweep(search: Search, model: nn.Module, x: Tensor, y: Tensor, noise: Noise, batch: int | None = None) -> Tensor:
    """Adversarial images of the shape of `x`: what `search` found for each point, and the image itself where nothing.

    At most `batch` points (None: all) are under way at once. A point leaves when it is `spent`, or `found` and
    confirmed: the network itself judges (`surrogate.judge`, where `model` is only a faster copy), and if it is not
    wrong there (`losses.wrong`), the point's search goes on. Points share nothing but their batch, so a point's result
    depends on the others through the rounding of batched arithmetic alone.
    """
    size = batch or len(x)
    noise = per_image(noise, len(x))
    result, waiting = x.clone(), torch.arange(len(x), device=x.device)
    state: State = {}
    with evaluating(model), evaluating(judge(model)), frozen(model):
        while len(waiting) or state:
            room = size - (len(state["place"]) if state else 0)
            # Refilled by eighths: joining tensors costs more than a few empty places.
            if len(waiting) and room >= min(max(1, size // 8), len(waiting)):
                new, waiting = waiting[:room], waiting[room:]
                fresh = {**search.begin(x[new], y[new], noise.take(new)), "place": new}
                state = {name: torch.cat([state[name], fresh[name]]) for name in fresh} if state else fresh
            place = state["place"]
            state = {**search.step({k: v for k, v in state.items() if k != "place"}), "place": place}
            state = _without_decided(model, state, result, y)
    return result


def _without_decided(model: nn.Module, state: State, result: Tensor, y: Tensor) -> State:
    """The points still under way; what the judge confirms is written into `result`."""
    over, found = state["spent"], state["found"].nonzero().squeeze(1)
    if len(found):
        place, adv = state["place"][found], state["adv"][found]
        with torch.no_grad():
            broken = wrong(judge(model)(adv), y[place])
        result[place[broken]] = adv[broken]
        over = over.index_fill(0, found[broken], True)
    if not over.any():
        return state
    left = (~over).nonzero().squeeze(1)
    return {name: value[left] for name, value in state.items()} if len(left) else {}
