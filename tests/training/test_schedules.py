import pytest
from hypothesis import given, strategies as st

from harp.training import SCHEDULES

spans = st.tuples(st.integers(1, 50), st.integers(1, 50)).flatmap(
    lambda span: st.tuples(st.integers(0, span[0] * span[1] - 1), st.just(span[0] * span[1]), st.just(span[0]))
)


def test_cosine_at_the_start_the_middle_and_the_end():
    cosine = SCHEDULES["cosine"]
    assert [cosine(step, 100, 10) for step in (0, 50, 100)] == pytest.approx([1, 0.5, 0], abs=1e-12)
    assert cosine(25, 100, 10) == pytest.approx(0.8535534)


def test_cosine_epochs_gives_the_published_rates():
    # METHODS 1.4: 20 epochs at 0.1 run 0.0994, 0.1, 0.0994, ..., 0.00245.
    rates = [0.1 * SCHEDULES["cosine-epochs"](epoch * 391, 20 * 391, 391) for epoch in range(20)]
    assert rates[:3] == pytest.approx([0.0994, 0.1, 0.0994], abs=5e-5)
    assert rates[-1] == pytest.approx(0.00245, abs=5e-6)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_cosine_epochs_ends_where_the_published_fine_tuning_ends():
    # METHODS 1.4: of 100 epochs at 0.01 the last uses 1e-5.
    assert 0.01 * SCHEDULES["cosine-epochs"](99 * 391, 100 * 391, 391) == pytest.approx(1e-5, rel=0.02)


def test_cosine_epochs_moves_once_an_epoch():
    factors = [SCHEDULES["cosine-epochs"](step, 40, 10) for step in range(40)]
    assert all(len({*factors[start : start + 10]}) == 1 for start in range(0, 40, 10))
    assert len({*factors[10:]}) == 3


def test_warm_rises_for_a_fifth_and_falls():
    factors = [SCHEDULES["warm"](step, 10, 5) for step in range(11)]
    assert factors == pytest.approx([0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])


def test_constant_is_constant():
    assert {SCHEDULES["constant"](step, 10, 5) for step in range(10)} == {1.0}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@given(spans)
def test_every_factor_lies_in_0_to_1(name, span):
    assert 0 <= SCHEDULES[name](*span) <= 1


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_a_stage_of_any_length_learns_something(name, epochs):
    assert max(SCHEDULES[name](step, epochs * 10, 10) for step in range(epochs * 10)) > 0.4
