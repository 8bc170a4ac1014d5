"""How often attacks ask, where it can be counted by hand."""

import math

import pytest

from harp.config import EvaluationSettings
from harp.networks.attacking import attacks_of
from harp.probing.queries import Queries, queries
from harp.threats import Threat


def counted(*names, norm=math.inf, **settings):
    asked = EvaluationSettings(attacks=names, engine="harp" if names == ("rand",) else None, **settings)
    return queries(attacks_of(asked, norm, 0), (1, 4, 4), 10, Threat(norm=norm, eps=0.1))


def test_one_step_is_one_gradient_between_two_looks():
    assert counted("fgsm") == (Queries(2, 1), Queries(2, 1))


def test_pgd_takes_all_its_steps_and_of_several_restarts_looks_at_each():
    assert counted("pgd", steps=3, restarts=2) == (Queries(2 + 2, 6), Queries(2 + 2, 6))


def test_attacks_of_one_evaluation_are_summed_and_the_clean_pass_is_taken_once():
    assert counted("fgsm", "pgd", steps=3, restarts=1, norm=2) == (Queries(1 + 2, 4), Queries(1 + 2, 4))


@pytest.mark.slow
def test_what_falls_at_once_is_asked_least_and_what_holds_to_the_end():
    least, most = counted("rand")
    assert least == Queries(3, 20)  # one step of twenty draws
    assert most.gradient == 2 * 101 * 20
    assert counted("square")[1] == Queries(5002, 0)
