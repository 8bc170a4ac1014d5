import math
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from sklearn.metrics import balanced_accuracy_score

from harp.errors import HarpError
from harp.evaluation import balanced_accuracy, wilson
from harp.evaluation.balanced import uneven

Z = 1.959963984540054
tables = st.lists(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=8
)


def points(table):
    """Flags and labels with `successes` of `n` points right in each class; the classes are 0, 3, 6, ..."""
    right = [index < successes for successes, n in table for index in range(n)]
    labels = [3 * place for place, (_, n) in enumerate(table) for _ in range(n)]
    return torch.tensor(right), torch.tensor(labels)


def measured(*table):
    return balanced_accuracy(*points(table))


def test_a_rare_class_counts_as_much_as_a_common_one():
    seen = measured((90, 100), (1, 4))
    assert seen.accuracy == pytest.approx((0.9 + 0.25) / 2)
    assert seen.n == 104


@given(tables)
def test_the_mean_is_that_of_scikit_learn(table):
    right, labels = points([*table, (1, 1)])
    # A wrong answer is the next true class, for the last one the first.
    answers = torch.where(right, labels, (labels + 3) % (3 * len(table) + 3))
    wanted = balanced_accuracy_score(labels.numpy(), answers.numpy())
    assert balanced_accuracy(right, labels).accuracy == pytest.approx(wanted)


@given(st.integers(1, 10**4).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_one_class_has_wilsons_interval(counts):
    seen = measured(counts)
    assert (seen.low, seen.high) == pytest.approx(wilson(*counts), abs=1e-9)


@given(tables)
def test_the_interval_lies_around_the_mean_in_0_to_1_and_failures_mirror_successes(table):
    seen, mirrored = measured(*table), measured(*((n - successes, n) for successes, n in table))
    assert -1e-12 <= seen.low <= seen.accuracy + 1e-12
    assert seen.accuracy - 1e-12 <= seen.high <= 1 + 1e-12
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - seen.high, 1 - seen.low), abs=1e-9)


@settings(max_examples=30)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(table, random):
    right, labels = points(table)
    order = torch.tensor(random.sample(range(len(right)), len(right)))
    seen, again = balanced_accuracy(right, labels), balanced_accuracy(right[order], labels[order])
    assert (again.low, again.accuracy, again.high) == pytest.approx((seen.low, seen.accuracy, seen.high))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(1, 12))
@example((0, 40), 10)
@example((40, 40), 10)
def test_equal_classes_solve_the_score_equation_together(counts, classes):
    # By symmetry every class has the tested mean t: (share - t)^2 = z^2 t (1 - t) / (classes (n - 1 + 1 / classes)).
    successes, n = counts
    share, trials = successes / n, classes * (n - 1 + 1 / classes)
    seen = measured(*[counts] * classes)
    for bound in (seen.low, seen.high):
        assert (share - bound) ** 2 == pytest.approx(Z**2 * bound * (1 - bound) / trials, rel=1e-6, abs=1e-12)
    assert (seen.low == pytest.approx(share, abs=1e-12)) == (successes == 0)
    assert (seen.high == pytest.approx(share, abs=1e-12)) == (successes == n)


def test_of_classes_without_an_error_the_smallest_is_the_doubt():
    # Only the class of 10 can lie low at little cost: K = 2, (1 - t) = (1 - p) / 2, and its variance is divided by 9.5.
    doubt = Z**2 / 9.5
    assert measured((10, 10), (4000, 4000)).low == pytest.approx(1 - doubt / (1 + doubt) / 2, rel=1e-6)


def test_large_classes_have_the_normal_interval():
    table = [(9_000, 10_000), (20_000, 40_000), (12_000, 20_000)]
    half = Z * math.sqrt(sum(k / n * (1 - k / n) / n for k, n in table)) / 3
    seen = measured(*table)
    assert (seen.low, seen.high) == pytest.approx((seen.accuracy - half, seen.accuracy + half), abs=5e-5)


@pytest.mark.parametrize("classes", [((0.6, 12), (0.3, 20)), ((0.95, 10), (0.5, 25)), ((0.2, 6), (0.5, 6), (0.9, 6))])
def test_95_per_cent_of_samples_hold_the_truth(classes):
    # Exact: every table, weighted by its binomial probabilities.
    covered, truth = 0.0, sum(share for share, _ in classes) / len(classes)
    for successes in product(*(range(n + 1) for _, n in classes)):
        seen = measured(*((k, n) for k, (_, n) in zip(successes, classes, strict=True)))
        if seen.low <= truth <= seen.high:
            covered += math.prod(
                math.comb(n, k) * share**k * (1 - share) ** (n - k)
                for k, (share, n) in zip(successes, classes, strict=True)
            )
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize(
    ("right", "labels", "message"),
    [
        (torch.ones(3), torch.zeros(3, dtype=torch.long), "right: expected bool"),
        (torch.ones(0, dtype=torch.bool), torch.zeros(0, dtype=torch.long), "right: expected bool"),
        (torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 1, dtype=torch.long), "right: expected bool"),
        (torch.ones(3, dtype=torch.bool), torch.zeros(2, dtype=torch.long), r"labels: expected integers \[3\]"),
        (torch.ones(3, dtype=torch.bool), torch.zeros(3), r"labels: expected integers \[3\]"),
    ],
    ids=["float-flags", "no-points", "two-axes", "other-length", "float-labels"],
)
def test_what_are_no_flags_with_labels_is_refused(right, labels, message):
    with pytest.raises(HarpError, match=message):
        balanced_accuracy(right, labels)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [([0, 0, 1, 1], False), ([0, 0, 0, 1, 1], False), ([0, 0, 0, 0, 1, 1], True), ([4, 4], False), ([], False)],
)
def test_classes_are_uneven_where_one_is_half_as_large_again_as_another(labels, wanted):
    assert uneven(torch.tensor(labels, dtype=torch.int64)) is wanted
