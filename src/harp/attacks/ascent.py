"""What AutoPGD's searches have in common: runs of ascent that go back to their best point."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from harp.attacks.losses import gradient, wrong
from harp.attacks.sweep import State
from harp.randomness import Keyed
from harp.threats import Threat, per_point


@dataclass(frozen=True)
class Ascent(ABC):
    """Runs of gradient ascent, a start and `steps` steps each; what differs between norms is a subclass's. A `Search`.

    `aims` gives the classes that a point's runs go for in turn, [n, runs]; `loss` takes logits, labels and the class
    of the run. A run has one or more stages. In a point's row `stage` numbers them, all runs together, and `taken`
    counts the stage's steps: -1 until its start has been looked at. `uphill` is the direction of the gradient at `adv`.
    """

    model: nn.Module
    threat: Threat
    aims: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    steps: int
    eot: int
    device: torch.device

    @abstractmethod
    def plan(self) -> list[list[int]]:
        """For each stage of a run and each of its steps from 0: how many steps a checkpoint there looks back, or 0."""

    @abstractmethod
    def start(self, state: State) -> Tensor:
        """Where the stage of each point begins."""

    @abstractmethod
    def direction(self, grad: Tensor) -> Tensor:
        """What `moved` needs of the gradient; finite whatever the gradient is."""

    @abstractmethod
    def moved(self, state: State, at: Tensor, uphill: Tensor) -> Tensor:
        """One step from `at`; none where `uphill` is 0 and the last step was none."""

    @abstractmethod
    def fresh(self, state: State) -> State:
        """The columns of a subclass's own as a stage begins; `adv` is its start."""

    @abstractmethod
    def adapted(self, state: State, loss: Tensor, lookback: Tensor) -> State:
        """The same columns after a step, and `jump`: whether the next step starts from the best point."""

    def constants(self, x: Tensor) -> State:
        """Columns of a subclass that stay what they are."""
        return {}

    def begin(self, x: Tensor, y: Tensor, noise: Keyed) -> State:
        stage = torch.zeros_like(y)
        known = {"x": x, "y": y, "keys": noise.keys, "aims": self.aims(x, y), "stage": stage, "best": x}
        known |= self.constants(x)
        return known | self._opened(known)

    def step(self, state: State) -> State:
        """Each point one query on: a stage's first looks at its start, every later one at where a step has led."""
        state = self._onward(state)
        at, uphill = _where_from(state)
        adv = self.moved(state, at, uphill)
        broken, loss, uphill = self._asked(adv, state)
        taken, stage = state["taken"] + 1, self.stage(state)
        # `old` is where this step began, be that the best point after a jump: in the next step's momentum the jump
        # then counts as a move, as in the authors' program.
        state = {**state, "taken": taken, "adv": adv, "old": at, "uphill": uphill}
        state |= _best(state, loss)
        state |= self.adapted(state, loss, self._lookback[stage, taken])
        return state | self._decided(state, broken)

    def _decided(self, state: State, broken: Tensor) -> State:
        """What a sweep wants to know of each point, given whether it is `broken`, bool [n]."""
        stages, runs = len(self._lengths), state["aims"].shape[1]
        stage = self.stage(state)
        # Stages before a run's last may search in larger balls: what breaks there lies outside the threat.
        counts = stage == stages - 1
        last_of_all = state["stage"] == runs * stages - 1
        at_its_end = state["taken"] == self._lengths[stage]
        return {"found": broken & counts, "spent": last_of_all & at_its_end}

    def noise(self, state: State) -> Keyed:
        """Random numbers for the start of each point's run."""
        return Keyed(state["keys"]).at(self.run(state))

    def _asked(self, adv: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Verdicts and losses at `adv` by the last of `eot` passes, and where all passes together say is uphill."""
        logits, loss, grad = self._passed(adv, state)
        for _ in range(self.eot - 1):
            logits, loss, more = self._passed(adv, state)
            grad = grad + more  # a sum will do for the mean: only its direction is used
        return wrong(logits, state["y"]), loss.to(adv.dtype), self.direction(grad)

    def _passed(self, adv: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        probe = adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(probe)
            loss = self.loss(logits, state["y"], state["aim"])
            total = loss.sum()
        # A surrogate's gradient lies channels-last; mixed with images that do not, each pass over it costs four times.
        return logits.detach(), loss.detach(), gradient(total, probe).contiguous()

    def _onward(self, state: State) -> State:
        """The same points, those at the end of a stage at the start of the next."""
        rows = (state["taken"] == self._lengths[self.stage(state)]).nonzero().squeeze(1)
        if len(rows):
            there = {name: value[rows] for name, value in state.items()}
            there["stage"] += 1
            for name, value in self._opened(there).items():
                state[name].index_copy_(0, rows, value)
        return state

    def _opened(self, state: State) -> State:
        """The columns that begin anew with each stage."""
        start, stage = self.start(state), state["stage"]
        none, no = torch.zeros_like(start), torch.zeros_like(stage, dtype=torch.bool)
        opened = {"stage": stage, "aim": state["aims"].gather(1, self.run(state)[:, None]).squeeze(1)}
        opened |= {"taken": torch.full_like(stage, -1), "jump": no, "adv": start, "old": start, "uphill": none}
        opened |= {"best": start, "best_uphill": none, "best_loss": start.new_full(stage.shape, -torch.inf)}
        return opened | self.fresh({**state, **opened})

    def run(self, state: State) -> Tensor:
        """Which of its runs each point is in, from 0, [n]."""
        return state["stage"] // len(self._lengths)

    def stage(self, state: State) -> Tensor:
        """Which stage of that run, from 0, [n]; the column of that name goes on counting from run to run."""
        return state["stage"] % len(self._lengths)

    @cached_property
    def _lengths(self) -> Tensor:
        """How many steps each stage of a run takes, [stages of a run]."""
        return torch.tensor([len(steps) - 1 for steps in self.plan()], device=self.device)

    @cached_property
    def _lookback(self) -> Tensor:
        """The plan as one table, [stages of a run, steps of the longest + 1]."""
        rows = [torch.tensor(steps) for steps in self.plan()]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)


def _where_from(state: State) -> tuple[Tensor, Tensor]:
    """Where each point's step begins, which is its best point if it jumps, and what is uphill there."""
    jump = per_point(state["jump"], state["x"])
    at = torch.where(jump, state["best"], state["adv"])
    return at, torch.where(jump, state["best_uphill"], state["uphill"])


def _best(state: State, loss: Tensor) -> State:
    """The best point so far, `adv` with its `loss` included."""
    better = loss > state["best_loss"]
    rows = per_point(better, state["adv"])
    return {
        "best": torch.where(rows, state["adv"], state["best"]),
        "best_uphill": torch.where(rows, state["uphill"], state["best_uphill"]),
        "best_loss": torch.where(better, loss, state["best_loss"]),
    }


def checkpoints(steps: int, first: float, less: float, least: float) -> list[int]:
    """For each step from 0 to `steps`: how many steps a checkpoint there looks back, or 0 where there is none.

    The first comes after a share `first` of the steps, and each sooner than the one before by a share `less`, down to
    `least`; shares are cut to whole steps, at least one.
    """
    span, shorter, shortest = (max(int(share * steps), 1) for share in (first, less, least))
    marks, at = [0] * (steps + 1), span
    while at <= steps:
        marks[at] = span
        span = max(span - shorter, shortest)
        at += span
    return marks
