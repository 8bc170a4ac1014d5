import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harp.data import load
from harp.errors import HarpError

from .samples import BLUE, RED, parquet_set, png, shard

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"


def test_shards_are_read_in_order(tmp_path):
    data = load("parquet", parquet_set(tmp_path / "data").parent)
    assert data.train.images[:, :, 0, 0].tolist() == [list(RED), list(BLUE), list(RED)]
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.test.labels.tolist() == [1]
    assert (data.classes, data.size, data.flip) == (("red", "blue"), (4, 4), False)


@pytest.mark.parametrize("columns", [("image", "labels"), ("picture", "fine_label")])
def test_columns_have_several_names_and_classes_may_be_numbers(tmp_path, columns):
    for name in (TRAIN, TEST):
        shard(tmp_path / name, [png(5, mode="L")] * 3, [0, 2, 1], columns=columns)
    data = load("parquet", tmp_path)
    assert (data.classes, data.channels) == (("0", "1", "2"), 1)


def test_plain_binary_pictures_are_read(tmp_path):
    for name in (TRAIN, TEST):
        pq.write_table(pa.table({"image": [png(RED)], "label": [0], "other": ["text"]}), tmp_path / name)
    assert len(load("parquet", tmp_path).train) == 1


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([png(RED), png(RED)[:30]], [0, 1], r"train-00000-of-00001.parquet, row 1 is not a whole picture"),
        ([png(RED), png(RED, size=(4, 5))], [0, 1], r"row 1 is 5x4 pixels, the first picture 4x4"),
        ([png(RED), None], [0, 1], r"row 1 holds no image bytes"),
        ([png(RED), png(RED)], [0, None], r"row 1 has no label"),
        ([png(RED), png(RED)], [0, -1], r"1 of 2 labels are negative; the first is at index 1"),
    ],
)
def test_the_damaged_row_is_named(tmp_path, pictures, labels, message):
    shard(tmp_path / TRAIN, pictures, labels)
    shard(tmp_path / TEST, [png(RED)], [0])
    with pytest.raises(HarpError, match=message):
        load("parquet", tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_a_cut_file_is_named(tmp_path, share):
    file = parquet_set(tmp_path) / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(HarpError, match=r"train-00001-of-00002.parquet is not a whole Parquet file"):
        load("parquet", tmp_path)


def test_a_damaged_page_is_named(tmp_path):
    file = parquet_set(tmp_path) / "train-00001-of-00002.parquet"
    data = bytearray(file.read_bytes())
    data[4:60] = b"\xff" * 56
    file.write_bytes(data)
    with pytest.raises(HarpError, match=r"train-00001-of-00002.parquet"):
        load("parquet", tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": ["text"], "label": [0]}, "no column of encoded images"),
        ({"a": [b"x"], "b": [b"y"], "label": [0]}, "several columns of encoded images: a, b"),
        ({"img": [b"x"], "label": ["cat"]}, "no whole-number column label, labels, fine_label; label holds string"),
        ({"img": [b"x"], "label": [1.0]}, "no whole-number column label.*; label holds double"),
        ({"img": [b"x"], "label": [True]}, "no whole-number column label.*; label holds bool"),
        ({"img": [b"x"], "labell": [0]}, "did you mean 'labell'"),
    ],
)
def test_missing_columns_are_told(tmp_path, columns, message):
    for name in (TRAIN, TEST):
        pq.write_table(pa.table(columns), tmp_path / name)
    with pytest.raises(HarpError, match=message):
        load("parquet", tmp_path)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_labels_may_be_whole_numbers_of_any_size(tmp_path, kind):
    for name in (TRAIN, TEST):
        pq.write_table(pa.table({"image": [png(RED)] * 2, "label": pa.array([1, 0], kind)}), tmp_path / name)
    assert load("parquet", tmp_path).train.labels.tolist() == [1, 0]


def test_names_in_another_order_are_matched_by_name(tmp_path):
    shard(tmp_path / "train-00000-of-00002.parquet", [png(RED), png(BLUE)], [0, 1], ["red", "blue"])
    shard(tmp_path / "train-00001-of-00002.parquet", [png(RED), png(BLUE)], [1, 0], ["blue", "red"])
    shard(tmp_path / TEST, [png(BLUE)] * 2, [0, 0], ["blue", "red"])
    data = load("parquet", tmp_path)
    assert data.classes == ("red", "blue")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 0, 1], [1, 1])


def test_a_part_may_list_fewer_classes(tmp_path):
    shard(tmp_path / TRAIN, [png(RED), png(BLUE)], [0, 1], ["red", "blue"])
    shard(tmp_path / TEST, [png(BLUE)], [0], ["blue"])
    assert load("parquet", tmp_path).test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (["blue", "rouge"], 0, "lists the classes blue, rouge, where .* lists red, blue; 'rouge' cannot be matched"),
        (["blue", "blue"], 0, "'one name twice' cannot be matched"),
        (["blue"], 1, "row 0 has the label 1; expected one of its file's 1 classes"),
    ],
)
def test_names_that_cannot_be_matched_are_told(tmp_path, names, label, message):
    shard(tmp_path / TRAIN, [png(RED), png(BLUE)], [0, 1], ["red", "blue"])
    shard(tmp_path / TEST, [png(BLUE)], [label], names)
    with pytest.raises(HarpError, match=message):
        load("parquet", tmp_path)


@pytest.mark.parametrize("labels", [[-1, -1], [None, None]])
def test_an_unlabelled_test_part_is_passed_over(tmp_path, labels):
    shard(tmp_path / TRAIN, [png(RED), png(BLUE)], [0, 1])
    shard(tmp_path / TEST, [png(RED)] * 2, labels)
    shard(tmp_path / TEST.replace("test", "validation"), [png(BLUE)], [1])
    data = load("parquet", tmp_path)
    assert data.test.labels.tolist() == [1]
    assert data.notes == ("the test part has no labels, so the test images are those of the validation part",)


def test_a_test_part_without_a_column_of_labels_is_passed_over(tmp_path):
    shard(tmp_path / TRAIN, [png(RED), png(BLUE)], [0, 1])
    pq.write_table(pa.table({"img": [png(RED)]}), tmp_path / TEST)
    shard(tmp_path / TEST.replace("test", "valid"), [png(BLUE)], [1])
    assert load("parquet", tmp_path).test.labels.tolist() == [1]


def test_a_test_part_with_some_labels_missing_is_refused(tmp_path):
    shard(tmp_path / TRAIN, [png(RED), png(BLUE)], [0, 1])
    shard(tmp_path / TEST, [png(RED)] * 2, [0, -1])
    shard(tmp_path / TEST.replace("test", "validation"), [png(BLUE)], [1])
    with pytest.raises(HarpError, match="1 of 2 labels are negative"):
        load("parquet", tmp_path)


def test_a_labelled_test_part_needs_no_note(tmp_path):
    assert load("parquet", parquet_set(tmp_path)).notes == ()


def test_a_path_is_needed():
    with pytest.raises(HarpError, match=r"'parquet' has no default place; set data.path"):
        load("parquet")


def test_without_pyarrow_the_command_is_told(tmp_path, monkeypatch):
    parquet_set(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HarpError, match=r"needs pyarrow; install it with pip install 'harp-pruning\[images\]'"):
        load("parquet", tmp_path)
