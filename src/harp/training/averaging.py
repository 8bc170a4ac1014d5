"""Weights averaged over a stage's steps, beside the weights that are trained."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from harp.errors import HarpError
from harp.pruners import Moment, Pruner
from harp.runs import Tree
from harp.training.together import statistics


class Average:
    """An exponential moving average of all that `optimizer` trains and of batch norms' running statistics (EMA).

    It begins as they are after the first step, and after each further one becomes `decay` of itself and 1 - `decay` of
    them; `decay` in (0, 1), after log 0.5 / log `decay` steps half of it is newer (0.99: 69 steps, 0.999: 693). What is
    trained is never touched by it. While a method searches, what it learns by is averaged, scores and rates, and the
    network of the average is the one that the method makes of these.

    A callback for `fit`; `adopt` afterwards makes the model the average. Raises `HarpError` for another `decay`.
    """

    def __init__(self, model: nn.Module, pruner: Pruner, optimizer: torch.optim.Optimizer, decay: float):
        if not 0 < decay < 1:
            raise HarpError(f"average is {decay:g}; expected a share above 0 and below 1, such as 0.999")
        self._model, self._pruner = model, pruner
        self._trained = [param for group in optimizer.param_groups for param in group["params"]]
        self._move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averages: list[Tensor] = []

    def __call__(self, moment: Moment) -> None:
        now = self._now()
        if self._averages:
            self._move(self._averages, now, 0)
        else:
            self._averages = [value.detach().clone() for value in now]

    @torch.no_grad()
    def adopt(self, moment: Moment) -> None:
        """The model and what the pruner learns by are the averages from now on; `moment` is that of the last step.

        Before a first step there are none, and all stays as it is.
        """
        if not self._averages:
            return
        for value, average in zip(self._now(), self._averages, strict=True):
            value.copy_(average)
        self._pruner.push(moment)

    @contextmanager
    def adopted(self, moment: Moment) -> Iterator[None]:
        """Within it the model and the pruner are as `adopt` leaves them; afterwards as before, in every bit."""
        model = {name: value.clone() for name, value in self._model.state_dict().items()}
        pruner = copy.deepcopy(self._pruner.state_dict())
        self.adopt(moment)
        try:
            yield
        finally:
            # As a stage is taken up from its checkpoint.
            self._model.load_state_dict(model)
            self._pruner.load_state_dict(pruner)
            self._pruner.push(moment)

    def _now(self) -> list[Tensor]:
        return [*self._trained, *statistics(self._model)]

    def state_dict(self) -> Tree:
        return {str(number): value for number, value in enumerate(self._averages)}

    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave; raises `HarpError` where it is that of another network."""
        values = [state[str(number)] for number in range(len(state))]
        if values and [value.shape for value in values] != [value.shape for value in self._now()]:
            raise HarpError("the averages are those of another network")
        self._averages = [torch.empty_like(now).copy_(value) for now, value in zip(self._now(), values, strict=False)]
