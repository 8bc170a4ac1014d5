import pytest

from harp.data import DATA, load
from harp.errors import HarpError


def test_every_set_has_a_name_and_a_summary():
    assert list(DATA) == ["arrays", "cifar10", "cifar100", "digits", "folder", "parquet"]
    assert all(DATA.summary(name).endswith((".", ":")) for name in DATA)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(HarpError, match="no data set 'digit'; did you mean 'digits'"):
        load("digit")
