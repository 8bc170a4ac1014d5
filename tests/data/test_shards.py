import pytest

from harp.data.shards import find_shards, has_shards, whole
from harp.errors import HarpError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(files):
    return [file.name for file in files]


@pytest.mark.parametrize("folder", ["", "data/", "plain_text/"])
@pytest.mark.parametrize("part", ["test", "validation", "valid"])
def test_shards_are_found_in_order(tmp_path, folder, part):
    train = [f"{folder}train-0000{number}-of-00002.parquet" for number in (1, 0)]
    touch(tmp_path, *train, f"{folder}{part}-00000-of-00001-1f2e.parquet", "README.md")
    found = find_shards(tmp_path)
    assert names(found[0]) == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert names(found[1][part]) == [f"{part}-00000-of-00001-1f2e.parquet"]
    assert has_shards(tmp_path)


def test_a_test_part_comes_before_validation(tmp_path):
    touch(tmp_path, "train-0.parquet", "test-0.parquet", "validation-0.parquet")
    assert list(find_shards(tmp_path)[1]) == ["test", "validation"]


def test_of_a_part_that_may_not_be_chosen_nothing_is_demanded(tmp_path):
    touch(tmp_path, "train-0.parquet", "test-0.parquet", "validation-00001-of-00002.parquet")
    with pytest.raises(HarpError, match=r"lacks shard 0 of its validation-\*"):
        whole(find_shards(tmp_path)[1]["validation"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["readme"], r"no train-\*.parquet in"),
        (["train-0.parquet"], "no test part; expected one of test, validation, valid"),
        (["a/train-0.parquet", "b/train-0.parquet"], "several sets: a, b; name one"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], r"lacks shard 1 of its train-\*"),
    ],
)
def test_what_is_missing_is_told(tmp_path, files, message):
    with pytest.raises(HarpError, match=message):
        find_shards(touch(tmp_path, *files))


def test_no_folder_has_no_shards(tmp_path):
    assert not has_shards(tmp_path / "missing")
