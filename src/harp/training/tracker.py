"""What surrounds `fit` in a run: metrics, validation, selection, checkpoints, and taking up where a kill left off."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from harp.errors import HarpError
from harp.objectives import Objective
from harp.pruners import Moment, Pruner
from harp.ranks import ALONE, Ranks
from harp.runs import DamagedError, Metrics, Tree, load_tree, remove, save_tree, tree_digest
from harp.training.averaging import Average
from harp.written import Line

Validate = Callable[[nn.Module], dict[str, float]]
"""Accuracies of a model on the validation split; must hold "robust" and "clean"."""


CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"


def clear(folder: Path) -> None:
    """The files in a stage's folder that only a resume needs are gone; after the done-marker."""
    for name in (CHECKPOINT, BEST):
        remove(folder / name)


@dataclass
class Tracker:
    """A callback for `fit` that keeps a stage's folder such that the stage can be killed at any moment.

    The folder gets `metrics.jsonl`, `checkpoint.safetensors` (everything the next step depends on) and, where there is
    a `validate`, `best.safetensors`: the state of highest robust, then clean validation accuracy. What is validated is
    always the settled network, so a candidate over budget does not exist. `every`, `checkpoint` and `per_epoch` are in
    optimizer steps. With an `average` its network is validated beside the one that is trained, and the better is
    selected; without `validate` it is the average. Each of several `ranks` has one; they compare what they hold before
    every checkpoint, which the first writes and all take up, however many they then are.
    """

    folder: Path
    model: nn.Module
    pruner: Pruner
    optimizer: torch.optim.Optimizer
    _: KW_ONLY
    objective: Objective
    per_epoch: int
    until: int
    every: int
    checkpoint: int
    validate: Validate | None
    average: Average | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.folder / "metrics.jsonl")
        self.best: dict[str, Any] | None = None
        self.last = 0
        self._losses = {"sum": 0.0, "count": 0}

    def resume(self) -> int:
        """The optimizer step from which to go on: 0, or that of the checkpoint, whose state is then in place."""
        path = self.folder / CHECKPOINT
        step = 0
        if self.ranks.told(path.exists):
            step = self._take_up(path, self._everything)
        self.ranks.told(lambda: self.metrics.rewind(step))
        self.last = step
        return step

    def _everything(self, state: Tree) -> int:
        self._networks(state)
        self.objective.load_state_dict(self._part_of(state.get("objective", {})))  # checkpoints once had none
        self.optimizer.load_state_dict(_from_text_keys(state.get("optimizer") or state["optimiser"]))
        _lay_out_like_parameters(self.optimizer)
        self.best, self._losses = state["best"], state["losses"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        return int(state["step"])

    def _networks(self, state: Tree) -> int:
        own = self.model.state_dict()
        for name, value in state["model"].items():
            if name in own and value.dtype != own[name].dtype:
                raise TypeError(f"{name} holds {value.dtype} numbers, the network {own[name].dtype} ones")
        self.model.load_state_dict(state["model"])
        self.pruner.load_state_dict(state["pruner"])
        return 0

    def _take_up(self, path: Path, load: Callable[[Tree], int]) -> int:
        state = load_tree(path)
        try:
            return load(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            # A whole file from elsewhere, or of another version: what else could be in it nobody can list.
            said = " ".join(str(error).split())
            raise DamagedError(path, f"{path} is no checkpoint of this stage: {type(error).__name__}: {said}") from None

    def __call__(self, moment: Moment) -> None:
        assert moment.loss is not None
        self.last = moment.step
        self._losses["sum"] += float(moment.loss)
        self._losses["count"] += 1
        if self.average is not None:
            self.average(moment)
        if moment.step % self.every == 0 or moment.step == self.until or self.pruner.done:
            self._measure(moment)
        if moment.step % self.checkpoint == 0:
            save_tree(self.folder / CHECKPOINT, self._state(moment.step))

    def select(self) -> int:
        """The step whose state the model and the pruner now hold: the best validated one, else the last.

        `averaged` says afterwards whether it is the average of the steps up to that one.
        """
        self.ranks.wait()
        if self.best is None:
            if self.average is not None:
                self.average.adopt(Moment(self.last, self.optimizer))
            return self.last
        self._take_up(self.folder / BEST, self._networks)
        return int(self.best["step"])

    @property
    def averaged(self) -> bool:
        """Whether what is best so far, or would be selected as the last, is the average."""
        return self.average is not None and (self.best is None or self.best.get("averaged", False))

    def _measure(self, moment: Moment) -> None:
        validation = averaged = None
        if self.validate is not None:
            validation = self._candidate(moment.step, self.validate)
            if self.average is not None:
                with self.average.adopted(moment):
                    averaged = self._candidate(moment.step, self.validate, averaged=True)
            self.pruner.hear(validation)
        told = {
            "step": moment.step,
            "epoch": moment.step / self.per_epoch,
            "lr": moment.lr,
            "loss": self._losses["sum"] / self._losses["count"],
            "validation": validation,
            **({} if averaged is None else {"averaged": averaged}),
            "pruner": self.pruner.record(moment),
        }
        try:
            Line.model_validate(told)
        except ValidationError as error:
            raise HarpError(f"{type(self.pruner).__name__}.record tells what no chart can show: {error}") from None
        self.metrics.add(told)
        self._losses = {"sum": 0.0, "count": 0}

    def _candidate(self, step: int, validate: Validate, averaged: bool = False) -> dict[str, float]:
        """What the network measures; its state is the best from now on if nothing before measured as much."""
        with self.pruner.settled():
            validation = validate(self.model)
        rank = [validation["robust"], validation["clean"]]
        if self.best is None or rank > self.best["rank"]:
            self._check_finite()
            self.best = {"step": step, "rank": rank, "averaged": averaged}
            tree = {"model": self.model.state_dict(), "pruner": self.pruner.state_dict()}
            save_tree(self.folder / BEST, tree)
        return validation

    def _state(self, step: int) -> Tree:
        self._check_finite()
        self._check_same()
        return {
            "step": step,
            "best": self.best,
            "losses": dict(self._losses),
            "model": self.model.state_dict(),
            "pruner": self.pruner.state_dict(),
            "objective": self._whole(self.objective.state_dict()),
            "optimizer": _to_text_keys(self.optimizer.state_dict()),
            **({} if self.average is None else {"average": self.average.state_dict()}),
        }

    def _whole(self, state: Tree) -> Tree:
        """What an objective remembers of all ranks' parts of a batch; its other values are the first rank's."""
        return {name: self.ranks.joined(v) if isinstance(v, torch.Tensor) else v for name, v in state.items()}

    def _part_of(self, state: Tree) -> Tree:
        """This rank's part of what an objective remembers of a batch."""
        rank, size = self.ranks.part
        return {
            name: value.tensor_split(size)[rank] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in state.items()
        }

    def _check_same(self) -> None:
        if self.ranks.size > 1:
            optimizer = _to_text_keys(self.optimizer.state_dict())
            for what, tree in (("pruner", self.pruner.state_dict()), ("optimizer", optimizer)):
                self.ranks.same(f"the {what}", tree_digest(tree))
            self.ranks.same("the network", tree_digest(dict(self.model.state_dict())))

    def _check_finite(self) -> None:
        # A step can overflow the weights while its own loss was still finite; such a state must not replace a good one.
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise HarpError(f"{name} became NaN or infinite in training; a lower learning rate usually helps")


@torch.no_grad()
def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    # A file knows no strides, and sums over other strides may round otherwise: as autograd lays out gradients.
    for param, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == param.shape:
                state[key] = torch.empty_like(param, dtype=value.dtype).copy_(value)


def _to_text_keys(state: Tree) -> Tree:
    # SGD keeps None for a momentum that does not exist yet; JSON and safetensors need text keys.
    return {
        "state": {str(key): dict(value) for key, value in state["state"].items()},
        "param_groups": state["param_groups"],
    }


def _from_text_keys(state: Tree) -> Tree:
    return {
        "state": {int(key): value for key, value in state["state"].items()},
        "param_groups": state["param_groups"],
    }
