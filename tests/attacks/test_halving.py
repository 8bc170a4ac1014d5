import math

import pytest
import torch

from harp.attacks import APGD
from harp.threats import Threat
from tests.attacks.linear import linear

# Four steps back, of which more than three must have raised the loss; the best is 1 now.
ROWS = [
    # rises, best at the last checkpoint, halved there, looks back: halved now
    (4, 0.0, False, 4, False),
    (3, 0.0, False, 4, True),
    (4, 1.0, False, 4, True),
    (4, 1.0, True, 4, False),
    (0, 1.0, False, 0, False),
]


def test_a_checkpoint_halves_where_too_few_steps_rose_or_nothing_came_of_a_step_not_halved_before():
    rises, checked, before, lookback, halved = (torch.tensor(column) for column in zip(*ROWS, strict=True))
    ones = torch.ones(len(ROWS))
    state = {"rises": rises, "checked": checked, "halved": before, "best_loss": ones, "loss": ones, "size": ones}
    search = APGD().search(linear(), Threat(math.inf, 0.1), torch.device("cpu"))
    after = search.adapted(state, 0 * ones, lookback)
    assert after["jump"].tolist() == halved.tolist()
    assert after["size"].tolist() == torch.where(halved, 0.5, 1.0).tolist()
    assert after["rises"].tolist() == [0] * len(ROWS)
    assert after["halved"].tolist() == [False, True, True, False, False]
    assert after["checked"].tolist() == pytest.approx([1.0] * len(ROWS))
