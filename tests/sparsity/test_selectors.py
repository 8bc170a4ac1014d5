import pytest
from hypothesis import given, strategies as st
from torch import nn

from harp.errors import HarpError
from harp.sparsity import find_sites


class Wide(nn.Conv2d):
    pass


def network():
    def layer(count):
        return nn.ModuleList(nn.ModuleDict({"conv1": Wide(2, 2, 1), "conv2": nn.Conv2d(2, 2, 1)}) for _ in range(count))

    return nn.ModuleDict({"layer1": layer(1), "layer10": layer(2), "head": nn.Linear(2, 2)})


ALL = [
    "layer1.0.conv1.weight",
    "layer1.0.conv2.weight",
    "layer10.0.conv1.weight",
    "layer10.0.conv2.weight",
    "layer10.1.conv1.weight",
    "layer10.1.conv2.weight",
    "head.weight",
]


def names(include=(), exclude=()):
    return [site.name for site in find_sites(network(), include, exclude)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("head.weight", ALL[6:]),
        ("head", ALL[6:]),
        ("layer1", ALL[:2]),
        ("layer10.1", ALL[4:6]),
        ("layer1.*", ALL[:2]),
        ("layer*", ALL[:6]),
        ("layer1?", ALL[2:6]),
        ("*.conv1", ALL[0:6:2]),
        ("*.conv[1].weight", ALL[0:6:2]),
        ("class:Linear", ALL[6:]),
        ("class:Wide", ALL[0:6:2]),
        ("class:Conv2d", ALL[:6]),
        ("re:conv1", ALL[0:6:2]),
        (r"re:^layer1\.", ALL[:2]),
        ("re:^(head|layer1)\\.", [*ALL[:2], *ALL[6:]]),
    ],
)
def test_what_a_selector_selects(selector, expected):
    assert names(include=[selector]) == expected
    assert names(exclude=[selector]) == [name for name in ALL if name not in expected]


def test_without_selectors_everything_is_selected():
    assert names() == ALL


@given(include=st.lists(st.sampled_from(ALL), unique=True), exclude=st.lists(st.sampled_from(ALL), unique=True))
def test_selectors_add_up_exclude_wins_and_the_order_is_the_models(include, exclude):
    expected = [name for name in ALL if name in (include or ALL) and name not in exclude]
    if expected:
        assert names(include, exclude) == expected
    else:
        with pytest.raises(HarpError, match="leave none of 7 weights"):
            names(include, exclude)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("hed", "include: 'hed' matches no weight; did you mean 'head'"),
        ("layer1.0.conv3", r"did you mean 'layer1.0.conv\d'"),
        ("head.bias", "did you mean 'head"),
        ("Linear", "matches no weight"),
        ("class:Liner", "did you mean 'class:Linear'"),
        ("re:^conv", "matches no weight"),
        ("re:(", "is no regular expression"),
    ],
)
def test_a_selector_that_selects_nothing_is_a_mistake(selector, message):
    with pytest.raises(HarpError, match=message):
        names(include=[selector])
    with pytest.raises(HarpError, match=message.replace("include", "exclude")):
        names(exclude=[selector])
