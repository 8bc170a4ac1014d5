"""How right a runner is: what it makes of the images on record of an evaluation, clean and adversarial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harp.bench.runners import Answer
from harp.bench.subject import Subject
from harp.data import feed
from harp.evaluation import rejudge, summary
from harp.models import Function


@dataclass(frozen=True)
class Fixed:
    """A runner that was made for `batch` images at a time, asked about any number of them."""

    answer: Answer
    batch: int

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of `x` [n, c, h, w]; what the last batch lacks is filled up with black images, and left out again."""
        found = []
        for part in torch.split(x, self.batch):
            whole = torch.cat([part, part.new_zeros((self.batch - len(part), *x.shape[1:]))])
            # Some runners hand out the memory that they write the next answer to.
            found.append(self.answer(whole)[: len(part)].clone())
        return torch.cat(found)


def judged(subject: Subject, record: Path, answer: Answer, batch: int) -> dict[str, Any]:
    """Accuracies by the runner's own verdicts on the record's images, as JSON values.

    "measures" has clean accuracy, that under each attack and under all ("worst"), each with its n and 95 % interval;
    "compared" counts images, clean and adversarial, "different" those of which the runner judges otherwise than the
    network that was evaluated. The images were made against that network, so a runner that rounds may fall to others.
    """
    test, size = subject.work.split.test, subject.work.recipe.evaluation.batch_size
    images = feed(test, min(size, len(test)), 0, device="cpu", shuffle=False)
    verdicts = rejudge(Function(Fixed(answer, batch)).eval(), images, record)
    counted = {"compared": verdicts.compared, "different": verdicts.different}
    return {**counted, "measures": summary(verdicts.flags)}
