"""The one training loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.data import Batches
from harp.errors import HarpError
from harp.objectives import Objective
from harp.pruners import Pruner
from harp.randomness import generator, seed_of
from harp.training.optimisers import set_lr
from harp.training.precision import FLOAT32, Precision
from harp.training.schedules import SCHEDULES, Schedule


@dataclass(frozen=True)
class Moment:
    """What a callback sees after an optimiser step: how many steps are done, and the last batch's loss."""

    step: int
    loss: Tensor
    lr: float


def fit(
    model: nn.Module,
    data: Batches,
    *,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    pruner: Pruner,
    until: int,
    start: int = 0,
    schedule: Schedule = SCHEDULES["cosine"],
    precision: Precision = FLOAT32,
    seed: int = 0,
    stage: str = "fit",
    on: Sequence[Callable[[Moment], None]] = (),
) -> None:
    """Trains `model` from optimiser step `start` to step `until`; callbacks in `on` see every step.

    Attack noise of a step comes from (seed, stage, step), and so does torch's global generator while the step runs
    (dropout), so a resumed run repeats an uninterrupted one. Raises `HarpError` for batches or losses that are not
    finite; callbacks never see such a step.
    """
    precision.lay_out(model).train()
    view = precision.view(model)
    pruner.push(start)
    step = start
    if step >= until:
        return
    for x, y in data.after(start):
        if not torch.isfinite(x).all():
            raise HarpError(f"{stage}: the batch of step {step + 1} holds NaN or infinite pixels")
        noise = generator(seed, stage, "attack", step, device=x.device)
        with _global_noise(seed_of(seed, stage, "model", step), x.device):
            for evaluate in objective(view, x, y, noise):
                factor = schedule(step, until, data.steps_per_epoch)
                set_lr(optimiser, factor)
                model.zero_grad(set_to_none=True)
                optimiser.zero_grad(set_to_none=True)
                loss = evaluate()
                if not torch.isfinite(loss):
                    raise HarpError(
                        f"{stage}: the loss became {float(loss.detach())} at step {step + 1}; "
                        "a lower learning rate usually helps"
                    )
                torch.autograd.backward(loss + pruner.penalty())
                pruner.pull()
                optimiser.step()
                step += 1
                pruner.push(step)
                for callback in on:
                    callback(Moment(step, loss.detach(), optimiser.param_groups[0]["lr"]))
        if step >= until:
            return


@contextmanager
def _global_noise(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
