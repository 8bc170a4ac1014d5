import numpy as np
import pytest

from harp.data import DATA, load
from harp.errors import HarpError


def test_every_set_has_a_name_and_a_summary():
    assert list(DATA) == ["arrays", "cifar10", "cifar100", "digits", "folder", "parquet", "svhn", "tar"]
    assert all(DATA.summary(name).endswith((".", ":")) for name in DATA)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(HarpError, match="no data set 'digit'; did you mean 'digits'"):
        load("digit")


def arrays(folder, train, test, **more):
    for part, labels in (("train", train), ("test", test)):
        more |= {f"{part}_images": np.zeros((len(labels), 1, 4, 4), np.uint8), f"{part}_labels": np.array(labels)}
    np.savez(folder / "set.npz", **more)
    return folder / "set.npz"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (range(1, 11), "labels count from 1 and no image has 0, so 11 classes would be made of 10; count from 0"),
        ([0, 5, 1000], "labels are 3 numbers up to 1000 and no image has 1, so 1,001 classes would be made of 3;"),
        ([0, 10**12], "no image has 1, so 1,000,000,000,001 classes would be made of 2; .*set data.relabel to true"),
        ([7], "no image has 0, so 8 classes would be made of 1"),
    ],
)
def test_labels_with_gaps_are_told_until_they_are_numbered_anew(tmp_path, labels, message):
    file = arrays(tmp_path, labels, labels)
    with pytest.raises(HarpError, match=message):
        load("arrays", file)
    data = load("arrays", file, relabel=True)
    assert data.classes == tuple(map(str, labels))
    assert data.train.labels.tolist() == data.test.labels.tolist() == list(range(len(labels)))


def test_numbering_anew_goes_by_both_parts(tmp_path):
    data = load("arrays", arrays(tmp_path, [9, 3], [5, 3]), relabel=True)
    assert (data.classes, data.train.labels.tolist(), data.test.labels.tolist()) == (("3", "5", "9"), [2, 0], [1, 0])


def test_labels_without_gaps_are_as_they_were(tmp_path):
    file = arrays(tmp_path, [2, 0], [1])
    for relabel in (False, True):
        data = load("arrays", file, relabel=relabel)
        assert (data.classes, data.train.labels.tolist(), data.test.labels.tolist()) == (("0", "1", "2"), [2, 0], [1])


def test_class_names_say_how_many_classes_there_are(tmp_path):
    file = arrays(tmp_path, [1, 2], [2], class_names=np.array(["none", "one", "two", "three"]))
    assert load("arrays", file).classes == ("none", "one", "two", "three")
    with pytest.raises(HarpError, match=r"data\.relabel: the classes of arrays have names.*leave it out"):
        load("arrays", file, relabel=True)


@pytest.mark.parametrize("names", [np.array([1, 2]), np.array([["a"]]), np.array([b"a", b"b"])])
def test_class_names_that_are_none_are_refused(tmp_path, names):
    with pytest.raises(HarpError, match=r"set.npz: class_names are .*; expected a row of text"):
        load("arrays", arrays(tmp_path, [0, 1], [0], class_names=names))
