import pytest
import torch

from harp.pruners import Course, Moment, PwoA, PwoAOptions
from harp.sparsity import Budget, find_sites
from tests.pruners.networks import linear

FIRST = [0.9, -0.2, 0.5, 0.1]


def pwoa(course, **options):
    model = linear([FIRST])
    pruner = PwoA(find_sites(model), Budget(0.5), options=PwoAOptions(growth=1.0, **options), course=course)
    pruner.push(Moment(0))
    return model, pruner


def put(model, row):
    with torch.no_grad():
        model.weight.copy_(torch.tensor([row]))


@pytest.mark.parametrize("form", ["repaired", "published"])
def test_two_updates_and_a_gradient_that_counts_once(form):
    """METHODS 2.2's example, which is that of 2.5, too: epochs are longer than what is seen here."""
    model, pruner = pwoa(Course(100, 100), period=0.01, form=form)
    for step, row in enumerate(([0.8, -0.1, 0.6, 0.3], [0.7, -0.3, 0.5, 0.4]), start=1):
        put(model, row)
        pruner.push(Moment(step))
    assert pruner.z["weight"].tolist() == [pytest.approx([0.7, 0, 0, 0.7])]
    assert pruner.u["weight"].tolist() == [pytest.approx([0, -0.4, 0.5, 0])]
    pruner.penalty().backward()
    assert model.weight.grad.tolist() == [pytest.approx([0.01 * g for g in (0, -0.7, 1.0, -0.3)])]


@pytest.mark.parametrize(("form", "z"), [("repaired", [0.8, 0, 0.6, 0]), ("published", [0.7, 0, 0.9, 0])])
def test_as_published_every_epoch_begins_at_the_projection_of_the_weights_and_u_is_an_old_one(form, z):
    model, pruner = pwoa(Course(1, 10), period=0.2, form=form)
    for step, row in ((1, FIRST), (2, [0.8, -0.1, 0.6, 0.3]), (3, [0.7, 0.0, 0.9, 0.2])):
        put(model, row)
        pruner.push(Moment(step))
    assert pruner.z["weight"].tolist() == [pytest.approx(z)]
    assert pruner.u["weight"].tolist() == [pytest.approx([0, -0.1, 0, 0.3])]


def test_updates_come_at_the_papers_epochs_of_fifty_and_rho_grows_to_one():
    _, pruner = pwoa(Course(391, 50 * 391))
    assert [step / 391 for step in range(50 * 391 + 1) if pruner.updates_after(step)] == list(range(3, 50, 3))
    model = linear([FIRST])
    pruner = PwoA(find_sites(model), Budget(0.5), course=Course(1, 50))
    rates = []
    for step in range(50):
        pruner.push(Moment(step))
        rates.append(pruner.rho)
    assert rates[3] == pytest.approx(0.0135)
    assert rates[48] == 1.0
    assert rates[45] == pytest.approx(0.01 * 1.35**15)


def test_a_published_stage_that_is_resumed_goes_on_alike():
    ends = []
    for stop in (None, 3):
        model, pruner = pwoa(Course(2, 10), period=0.2, form="published")
        for step in range(1, 6):
            if step - 1 == stop:
                again = PwoA(find_sites(model), Budget(0.5), options=pruner.options, course=pruner.course)
                again.load_state_dict(pruner.state_dict())
                pruner = again
                pruner.push(Moment(stop))
            put(model, torch.sin(step * torch.arange(1.0, 5.0)).tolist())
            pruner.push(Moment(step))
        ends.append(str(pruner.state_dict()))
    assert ends[0] == ends[1]
