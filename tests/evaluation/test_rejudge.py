from dataclasses import dataclass

import pytest
import torch
from torch import nn

from harp.attacks import Cascade
from harp.errors import HarpError
from harp.evaluation import evaluate, rejudge
from harp.threats import Threat

THREAT = Threat(eps=0.25)


class Above(nn.Module):
    """Class 1 where a pixel is above the threshold, class 0 elsewhere."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x):
        far = 10 * (x.flatten(1)[:, :1] - self.threshold)
        return torch.cat([-far, far], 1)


@dataclass(frozen=True)
class Darker:
    """Every pixel darker by so much."""

    by: float

    def __call__(self, model, x, y, threat, noise):
        return x - self.by


# Of a threshold of 0.5: the first is wrong clean, the second and third fall to 0.25, the second to 0.15, too.
X = torch.tensor([0.2, 0.6, 0.7, 0.9, 0.8, 1.0]).view(6, 1, 1, 1)
BATCHES = [(X[:4], torch.ones(4, dtype=torch.int64)), (X[4:], torch.ones(2, dtype=torch.int64))]


def recorded(folder, cascade=False):
    attacks = {"far": Darker(0.25), "near": Darker(0.15)}
    return evaluate(Above(0.5), BATCHES, Cascade(attacks) if cascade else attacks, THREAT, folder=folder)


@pytest.mark.parametrize("cascade", [False, True])
def test_the_same_network_gives_the_same_verdicts(tmp_path, cascade):
    found, again = recorded(tmp_path / "record", cascade), rejudge(Above(0.5), BATCHES, tmp_path / "record")
    assert found.flags["worst"].tolist() == [False, False, False, True, True, True]
    assert again.flags.keys() == found.flags.keys()
    assert all(torch.equal(again.flags[name], found.flags[name]) for name in found.flags)
    # Six clean images and those that fell; a cascade leaves the second attack nothing to break.
    assert (again.compared, again.different) == (6 + (2 if cascade else 3), 0)


@pytest.mark.parametrize("cascade", [False, True])
def test_another_network_is_judged_by_its_own_answers(tmp_path, cascade):
    found = recorded(tmp_path / "record", cascade)
    again = rejudge(Above(0.4), BATCHES, tmp_path / "record")
    # A threshold of 0.4 is below 0.7 - 0.25 and 0.6 - 0.15, which broke the first network, and above 0.6 - 0.25.
    assert again.flags["worst"].tolist() == [False, False, True, True, True, True]
    assert again.flags["clean"].tolist() == found.flags["clean"].tolist()
    assert again.different == (1 if cascade else 2)
    worse = rejudge(Above(0.65), BATCHES, tmp_path / "record")
    assert worse.flags["clean"].tolist() == [False, False, True, True, True, True]
    assert worse.flags["worst"].tolist() == [False, False, False, True, True, True]
    assert worse.different == 1


def test_other_images_and_unfinished_records_are_refused(tmp_path):
    recorded(tmp_path / "record")
    with pytest.raises(HarpError, match="no finished record of these images"):
        rejudge(Above(0.5), [(1 - x, y) for x, y in BATCHES], tmp_path / "record")
    (tmp_path / "record" / "near-00001.safetensors").unlink()
    with pytest.raises(HarpError, match="no finished record of these images"):
        rejudge(Above(0.5), BATCHES, tmp_path / "record")
    with pytest.raises(HarpError, match="no file"):
        rejudge(Above(0.5), BATCHES, tmp_path / "none")
