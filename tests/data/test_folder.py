from pathlib import Path

import pytest

from harp.data import load
from harp.errors import HarpError

from .samples import BLUE, RED, png


def write(root: Path, **files: bytes) -> Path:
    """Files named part__class__name, all with the suffix .png."""
    for name, data in files.items():
        file = root.joinpath(*name.split("__")).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


def test_classes_are_sorted_and_test_may_lack_some(tmp_path):
    write(tmp_path, train__zebra__a=png(RED), train__ant__deep__b=png(BLUE), test__zebra__a=png(RED))
    (tmp_path / "train" / "ant" / "notes.txt").write_text("passed over")
    data = load("folder", tmp_path)
    assert data.classes == ("ant", "zebra")
    assert data.train.images[:, :, 0, 0].tolist() == [list(BLUE), list(RED)]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1], [1])
    assert (data.flip, data.size) == (False, (4, 4))


def test_val_will_do_and_grey_stays_grey(tmp_path):
    write(tmp_path, train__a__1=png(3, mode="L"), val__a__1=png(4, mode="L"))
    data = load("folder", tmp_path)
    assert (data.channels, int(data.test.images[0, 0, 0, 0])) == (1, 4)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train__a__1": png(RED), "train__a__2": png(RED, size=(5, 4)), "test__a__1": png(RED)},
            r"2.png is 4x5",
        ),
        (
            {"train__a__1": png(RED), "train__a__2": b"text", "test__a__1": png(RED)},
            r"2.png is not a whole picture",
        ),
        ({"train__a__1": png(RED), "test__a__1": png(RED, size=(5, 4))}, r"test images \(3, 4, 5\)"),
        ({"train__ant__1": png(RED), "test__aunt__1": png(RED)}, r"the class 'aunt'.*did you mean 'ant'"),
        ({"train__a__1": png(RED)}, "lacks the folder train, or test"),
        ({"test__a__1": png(RED)}, "lacks the folder train"),
        ({"train__1": png(RED), "test__a__1": png(RED)}, "which .*train has not"),
        ({"train__1": png(RED), "test__1": png(RED)}, "train holds no class folder"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, files, message):
    with pytest.raises(HarpError, match=message):
        load("folder", write(tmp_path, **files))


def test_an_empty_class_is_refused(tmp_path):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(HarpError, match=r"b holds no image; expected files ending in .png"):
        load("folder", tmp_path)
