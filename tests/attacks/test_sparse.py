import pyautoattack.autopgd_base
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack

from harp.attacks import APGD
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import distances, open_box, parallel
from tests.attacks.networks import Sees, broken, keys, network, points


def test_for_norm_1_what_a_larger_ball_breaks_is_not_found():
    model = parallel(3, (1, 2, 2), 1)
    x = torch.rand(4, 1, 2, 2, generator=generator(0, "x")).double()
    y = torch.zeros(4, dtype=torch.long)
    eps = float(distances(model, x, y, 1).amin()) / 1.5
    attack, threat, seen = APGD(steps=10), open_box(1, eps), Sees(model)
    assert torch.equal(attack(seen, x, y, threat, keys(4)), x)
    # Three starts and ten steps; in between the boundary was crossed.
    assert len(seen.seen) == 13
    assert any(broken(model, adv, y).any() for adv in seen.seen)


def test_where_the_best_point_changes_fewer_pixels_the_step_is_long_again_and_starts_from_it():
    best = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    state = {"x": torch.zeros(4, 4), "best": best, "radius": torch.full([4], 3.0), "changed": torch.full([4], 2.0)}
    state |= {"size": torch.tensor([1.5, 1.5, 0.4, 1.5]), "share": torch.ones(4)}
    search = APGD().search(parallel(2, (4,), 1), Threat(1, 1.0), torch.device("cpu"))
    after = search.adapted(state, torch.zeros(4), torch.tensor([1, 1, 1, 0]))
    assert after["jump"].tolist() == [True, False, False, False]
    assert after["size"].tolist() == pytest.approx([3.0, 1.0, 0.3, 1.5])
    assert after["changed"].tolist() == [1, 2, 2, 2]
    assert after["share"].tolist() == pytest.approx([1 / 4 / 1.5, 2 / 4 / 1.5, 2 / 4 / 1.5, 1])


def test_from_the_same_start_the_authors_program_takes_the_same_steps(monkeypatch):
    # Theirs computes projections in float32, and counts what these put back to within rounding as changed.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(pyautoattack.autopgd_base, "L0_norm", lambda delta: (delta.abs() > 1e-9).flatten(1).sum(1))
    monkeypatch.setattr(torch, "randn_like", lambda x: keys(len(x)).at(0).normal(x.shape[1:]))
    model, eps = Sees(network()), 0.3
    x, y = points(model, 32)
    model.seen = []
    search = APGD(steps=30).search(model, Threat(1, eps), x.device)
    state, found = search.begin(x, y, keys(32)), torch.zeros(32, dtype=torch.bool)
    for _ in range(30 + 3):
        state = search.step(state)
        found |= state["found"]
    ours, model.seen = model.seen, []
    attack = APGDAttack(model, n_iter=30, norm="L1", eps=eps, device="cpu")
    attack.init_hyperparam(x)
    right = attack.decr_eps_pgd(x, y, [3 * eps, 2 * eps, eps], [9, 9, 12])[1]
    assert 0 < found.sum() < 32
    assert torch.equal(found, right == 0)
    apart = torch.stack([(here - there).flatten(1).abs().amax(1) for here, there in zip(ours, model.seen, strict=True)])
    # A pixel on the edge of the steepest is in or out by rounding, and a point goes its own way from there.
    assert (apart.amax(0) < 1e-6).sum() >= 30
