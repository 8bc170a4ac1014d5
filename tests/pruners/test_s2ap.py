import copy
import pickle

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.data import Loader
from harp.errors import HarpError
from harp.objectives import AWP, LEVEL, PGDAT
from harp.pruners import METHODS, S2AP, Course, Harp, Hydra, Moment, S2APOptions, options_of
from harp.sparsity import Budget, find_sites
from harp.threats import Threat
from harp.training import fit, sgd

DATA = [(torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(n)), torch.arange(8) % 3) for n in range(2)]
COURSE = Course(2, 4)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def sharp(model, keep=0.5, **options):
    made = options_of("s2ap", {"base": "hydra", "warmup": 0, **options})
    return S2AP(find_sites(model), Budget(keep), options=made, course=COURSE)


def train(model, pruner, until=4, ascent=LEVEL):
    objective = PGDAT(PGD(steps=1), Threat(eps=0.1))
    data, optimizer = Loader(DATA, "cpu"), sgd(model, pruner, lr=0.5)
    fit(model, data, objective=objective, optimizer=optimizer, pruner=pruner, until=until, ascent=ascent)
    return {name: score.detach().clone() for name, score in pruner.scores.items()}


def test_scores_move_uphill_by_a_share_of_their_norm_and_the_mask_with_them():
    """METHODS 2.16's example: z = (-.01689, .02251) takes the second score past the first."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    pruner = sharp(model, radius=0.02)
    with torch.no_grad():
        pruner.scores["weight"].copy_(torch.tensor([[1.0, 0.99]]))
    pruner.push(Moment(0))
    assert model.weight.tolist() == [[1, 0]]

    def evaluate():
        return (model.weight * torch.tensor([[-0.6, 0.8]])).sum()

    with pruner.around(evaluate):
        assert pruner.scores["weight"][0].tolist() == pytest.approx([0.98311, 1.01251], abs=1e-5)
        assert model.weight.tolist() == [[0, 1]]
        evaluate().backward()
        pruner.pull()
    assert pruner.scores["weight"].tolist() == torch.tensor([[1.0, 0.99]]).tolist()
    assert model.weight.tolist() == [[1, 0]]
    assert pruner.scores["weight"].grad[0].tolist() == pytest.approx([-0.6, 0.8])


def test_the_gradient_is_that_at_the_moved_scores_written_out():
    """Two layers, so that the gradient at the moved masks is another one."""
    model, x = network().eval(), DATA[0][0]
    pruner = sharp(model, radius=0.3)
    pruner.push(Moment(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pruner.around(lambda: model(x).square().sum()):
        moved = {name: score.detach().clone() for name, score in pruner.scores.items()}
        model(x).square().sum().backward()
        pruner.pull()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plain = network().eval()
    other = Hydra(find_sites(plain), Budget(0.5))
    other.push(Moment(0))
    plain(x).square().sum().backward()
    other.pull()
    for name, score in other.scores.items():
        assert score.grad is not None
        step = 0.3 * score.detach().norm() * score.grad / score.grad.norm()
        torch.testing.assert_close(moved[name], score.detach() + step)
        with torch.no_grad():
            score.copy_(moved[name])
        score.grad = None
    other.push(Moment(1))
    plain.zero_grad()
    plain(x).square().sum().backward()
    other.pull()
    for name, score in other.scores.items():
        assert score.grad is not None
        assert score.grad.tolist() == pruner.scores[name].grad.tolist()


@pytest.mark.parametrize("ascent", [LEVEL, AWP(0.01)], ids=["level", "awp"])
@pytest.mark.parametrize("base", ["harp", "hydra", "scores-only", "rst"])
def test_every_method_of_scores_trains_otherwise_with_it_and_alike_without(base, ascent):
    def scores(**options):
        model = network()
        given = {"gamma": 0.5} if base == "harp" else {}
        return train(model, sharp(model, base=base, **given, **options), ascent=ascent)

    model = network()
    options = options_of(base, {"gamma": 0.5} if base == "harp" else {})
    plain = train(model, METHODS[base](find_sites(model), Budget(0.5), options=options, course=COURSE), ascent=ascent)
    for idle in ({"radius": 0.0}, {"warmup": 2}):
        assert all(torch.equal(score, plain[name]) for name, score in scores(**idle).items())
    moved = scores(radius=0.2)
    assert all((score != plain[name]).any() for name, score in moved.items())
    assert all(torch.equal(score, moved[name]) for name, score in scores(radius=0.2).items())


def test_warm_up_ends_after_its_epochs_and_statistics_see_each_batch_once():
    model = network()
    pruner = sharp(model, warmup=1, radius=0.2)
    seen = []
    around, pruner.standing.around = pruner.standing.around, None

    def noted(scores, evaluate):
        seen.append(pruner.standing.step)
        return around(scores, evaluate)

    pruner.standing.around = noted
    train(model, pruner)
    assert seen == [0, 1, 2, 3]
    assert model[1].num_batches_tracked == 4
    plain = network()
    train(plain, sharp(plain, warmup=1, radius=0.0), until=2)
    early = network()
    train(early, sharp(early, warmup=1, radius=0.2), until=2)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in early.state_dict().items())


def test_a_step_that_fails_leaves_scores_and_weights_as_they_were():
    model = network()
    pruner = sharp(model, radius=0.3)
    pruner.push(Moment(0))
    scores = {name: score.detach().clone() for name, score in pruner.scores.items()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), pruner.around(lambda: model.eval()(DATA[0][0]).square().sum()):
        raise KeyError
    assert all(torch.equal(score, scores[name]) for name, score in pruner.scores.items())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    pruner.push(Moment(1))


def test_without_a_gradient_nothing_moves():
    model = network()
    pruner = sharp(model, radius=0.3)
    pruner.push(Moment(0))
    before = pruner.scores["4.weight"].detach().clone()
    with pruner.around(lambda: 0.0 * model(DATA[0][0]).sum()):
        assert torch.equal(pruner.scores["4.weight"], before)


def test_what_is_made_is_the_bases_own_pruner_and_may_be_copied():
    model = network()
    pruner = sharp(model, base="harp", mode="exact")
    assert type(pruner) is Harp
    assert pruner.options.mode == "exact"
    twin, copied = copy.deepcopy((model, pruner))
    assert copied.standing == pruner.standing
    assert copied.standing is not pruner.standing
    copied.push(Moment(3))
    assert [getattr(one.standing, "step", None) for one in (copied, pruner)] == [3, 0]
    assert pickle.loads(pickle.dumps((model, pruner)))[1].standing == pruner.standing  # noqa: S301
    assert Hydra(find_sites(twin), Budget(0.5)).standing.moves is False


def test_it_begins_and_lasts_as_its_base_does():
    assert S2AP.begins_with(options_of("s2ap", {"base": "rst"})) == "untrained"
    assert S2AP.begins_with(options_of("s2ap", {})) == "dense"
    assert S2AP.steps(S2APOptions(), Course(2, 8)) == 8


def test_a_stage_without_a_moved_score_says_so():
    assert sharp(network(), warmup=2).notes()[0].startswith("no score was ever moved")
    model = network()
    assert sharp(model, warmup=1).notes() == []
    assert S2APOptions(radius=0, warmup=3).unused() == {"warmup": "radius is 0"}
    assert options_of("s2ap", {"mode": "exact", "gamma": 1.0}).unused().keys() == {"gamma"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base": "magnitude"}, "prune.options.base: magnitude has no scores to move; there are: chord, harp, hydra, "),
        ({"base": "hydrq"}, "no pruning method 'hydrq'; did you mean 'hydra'"),
        ({"gama": 1}, "no setting 'prune.options.gama'; did you mean 'gamma'? there are: base, "),
        ({"base": "hydra", "gamma": 1}, "no setting 'prune.options.gamma'; there are: base, radius, warmup"),
        ({"mode": "exakt"}, "prune.options.mode: "),
        ({"radius": -1}, "prune.options.radius: "),
    ],
)
def test_options_that_neither_has_are_refused(options, words):
    with pytest.raises(HarpError) as refusal:
        options_of("s2ap", options)
    assert str(refusal.value).startswith(words)


def test_what_it_cannot_do_is_refused():
    model = network()
    with pytest.raises(HarpError, match="those of rates-only do not"):
        sharp(model, base="rates-only")
    with pytest.raises(HarpError, match="needs course="):
        S2AP(find_sites(model), Budget(0.5), options=None, course=None)
    pruner = sharp(model)
    with pytest.raises(HarpError, match=r"only harp\.fit gives"):
        pruner.attach(sgd(model, pruner, lr=0.1))
