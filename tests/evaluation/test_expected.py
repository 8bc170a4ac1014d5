"""Networks that draw random numbers: means of several draws, verdicts by all of them, the same each time."""

import copy
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import harp
from harp.attacks import Attack
from harp.errors import HarpError
from harp.evaluation import Expected, Outcome, examine
from harp.runs import load_tree
from tests.attacks.linear import images, labels, linear, margins
from tests.evaluation.defences import THREAT as DIGITS, digits, network

THREAT = harp.Threat(eps=0.1)
FGSM: Mapping[str, Attack] = {"fgsm": harp.ATTACKS["fgsm"]()}


class Noisy(nn.Module):
    """A network whose margin is off by `deviation` times a standard normal number; `slope` likewise, in each pixel."""

    def __init__(self, model: nn.Module, deviation: float = 0.0, slope: float = 0.0):
        super().__init__()
        self.model, self.deviation, self.slope = model, deviation, slope

    def forward(self, x: Tensor) -> Tensor:
        off = self.deviation * torch.randn(len(x)) + self.slope * ((x - x.detach()) * torch.randn_like(x)).sum(
            (1, 2, 3)
        )
        logits: Tensor = self.model(x) + torch.stack([-off / 2, off / 2], 1)
        return logits


class Shaken(nn.Module):
    """The network behind noise on each pixel."""

    def __init__(self, model: nn.Module, by: float):
        super().__init__()
        self.model, self.by = model, by

    def forward(self, x: Tensor) -> Tensor:
        shaken: Tensor = self.model(x + self.by * torch.randn_like(x))
        return shaken


def test_its_gradient_is_the_mean_of_the_draws_gradients():
    model, x = Noisy(linear(), slope=3.0), images(5).requires_grad_()

    def slope(network, draws):
        torch.manual_seed(0)
        totals = [torch.autograd.grad(network(x)[:, 1].sum(), x)[0] for _ in range(draws)]
        return torch.stack(totals).mean(0)

    assert torch.allclose(slope(Expected(model, 7), 1), slope(model, 7), atol=1e-6)
    assert not torch.allclose(slope(Expected(model, 7), 1), slope(model, 1), atol=0.1)


def test_an_image_counts_only_where_every_answer_is_right():
    # All margins are 1, and off by 1 deviation: one answer is right with chance 0.841, all of four with 0.841^4.
    x, y, n = images(1).expand(4000, -1, -1, -1).contiguous(), torch.ones(4000, dtype=torch.int64), 4000
    model = Noisy(linear(bias=float(1 - margins(linear(), x[:1], y[:1]))), deviation=1.0)
    one = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    found = harp.evaluate(Expected(model, 4), [(x, y)], {}, THREAT)
    assert found.clean == pytest.approx(one**4, abs=4 * math.sqrt(one**4 * (1 - one**4) / n))
    assert found.clean < one
    said = next(note for note in found.notes if "single answer" in note)
    share = float(said.split("right in ")[1].split("%")[0]) / 100
    assert share == pytest.approx(one, abs=4 * math.sqrt(one * (1 - one) / n / 4) + 1e-3)


def test_means_lead_where_single_gradients_do_not():
    x, y = images(200), labels(200)
    model, sure = Noisy(linear(), slope=4.0), harp.evaluate(linear(), [(x, y)], FGSM, THREAT).robust
    single = harp.evaluate(model, [(x, y)], FGSM, THREAT).robust
    mean = harp.evaluate(Expected(model, 400), [(x, y)], FGSM, THREAT).robust
    assert sure <= mean < single
    assert mean - sure < 0.3 * (single - sure)


def test_a_record_repeats_itself_and_goes_on_with_the_same_bits(tmp_path):
    batches = [(images(40)[:25], labels(25)), (images(40)[25:], labels(15))]
    model = Expected(Noisy(linear(), deviation=0.3, slope=1.0), 5)
    attacks: Mapping[str, Attack] = {"pgd": harp.PGD(steps=3), "square": harp.Square(queries=20)}
    found = harp.evaluate(model, batches, attacks, THREAT, folder=tmp_path / "a")
    for name in ("a", "b"):
        again = harp.evaluate(copy.deepcopy(model), batches, attacks, THREAT, folder=tmp_path / name)
        assert {name: flags.tolist() for name, flags in again.flags.items()} == {
            name: flags.tolist() for name, flags in found.flags.items()
        }
        assert again.notes == found.notes
    before = (tmp_path / "b" / "pgd-00001.safetensors").read_bytes()
    for gone in ("pgd-00001.safetensors", "square-00000.safetensors"):
        (tmp_path / "b" / gone).unlink()
    harp.evaluate(model, batches, attacks, THREAT, folder=tmp_path / "b")
    assert (tmp_path / "b" / "pgd-00001.safetensors").read_bytes() == before
    with pytest.raises(HarpError, match="another draws: 5 there, 6 asked for"):
        harp.evaluate(Expected(model.model, 6), batches, attacks, THREAT, folder=tmp_path / "b")


def test_without_it_a_record_says_nothing_of_draws(tmp_path):
    harp.evaluate(linear(), [(images(4), labels(4))], FGSM, THREAT, folder=tmp_path)
    assert "draws" not in (tmp_path / "asked.json").read_text()
    assert "votes" not in load_tree(tmp_path / "clean-00000.safetensors")
    assert "votes" not in load_tree(tmp_path / "fgsm-00000.safetensors")


@pytest.mark.parametrize("draws", [0, 1])
def test_one_answer_is_no_mean(draws):
    with pytest.raises(HarpError, match="expected at least 2"):
        Expected(linear(), draws)


def test_behind_honest_noise_randomness_is_the_only_doubt():
    x, y = digits(32)
    model = Expected(Shaken(network("dense"), 0.02), 8).eval()
    assert [doubt.name for doubt in examine(model, x, y, DIGITS)] == ["randomness"]


def test_the_number_stands_and_the_doubt_beside_it():
    x, y = digits(40)
    found = harp.evaluate(Expected(Shaken(network("dense"), 0.02), 4), [(x, y)], FGSM, DIGITS)
    doubts = tuple(examine(Expected(Shaken(network("dense"), 0.02), 4), x[:16], y[:16], DIGITS))
    assert Outcome(found, doubts).robust is None
    outcome = Outcome(found, doubts, met=("randomness",), examined=16)
    assert outcome.robust == found.robust
    values = outcome.values()
    assert values["measures"]["worst"]["beside"] == ["randomness"]
    assert [doubt["met"] for doubt in values["doubts"]] == [True]
    unseen = Outcome(found, (), met=("randomness",), examined=16).values()
    assert unseen["notes"][0] == "allowance was made for randomness, of which nothing was seen."
