import os
import unicodedata
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


@pytest.mark.parametrize(
    "litter",
    [
        "train/a/.ipynb_checkpoints/1-checkpoint.png",
        "train/a/.thumbnails/1.png",
        "train/a/deep/.git/annex/1.png",
        "train/a/__MACOSX/1.png",
        "train/__MACOSX/a/._1.png",
        "train/a/._1.png",
        "train/a/@eaDir/1.png/thumb.png",
        "train/.cache/1.png",
    ],
)
def test_what_is_hidden_or_left_behind_is_not_read(tmp_path, litter):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / litter).write_bytes(png(BLUE))
    data = load("folder", tmp_path)
    assert (data.classes, len(data.train)) == (("a",), 1)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG"])
def test_other_names_for_jpeg_are_read(tmp_path, suffix):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / "train" / "a" / f"2{suffix}").write_bytes(png(RED, kind="JPEG"))
    assert len(load("folder", tmp_path).train) == 2


@pytest.mark.parametrize("suffix", [".heic", ".AVIF"])
def test_a_picture_that_is_not_read_is_not_left_out_in_silence(tmp_path, suffix):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / "train" / "a" / f"2{suffix}").touch()
    with pytest.raises(HarpError, match=f"2{suffix} is a picture of a kind that is not read; convert it"):
        load("folder", tmp_path)


def test_links_are_followed(tmp_path):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED), more__2=png(BLUE))
    (tmp_path / "train" / "a" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "train" / "b").symlink_to(tmp_path / "more")
    data = load("folder", tmp_path)
    assert (data.classes, data.train.labels.tolist()) == (("a", "b"), [0, 0, 1])


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("2.png", "gone.png", "2.png is no file but a link that leads nowhere"),
        ("2.png", "2.png", "2.png is no file but a link that leads nowhere"),
        ("loop", ".", "loop is a link that leads back to a folder it lies in"),
    ],
)
def test_links_that_lead_nowhere_or_back_are_refused(tmp_path, link, target, message):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / "train" / "a" / link).symlink_to(target)
    with pytest.raises(HarpError, match=message):
        load("folder", tmp_path)


@pytest.mark.parametrize("data", [b"", png(RED)[:-1], png(RED, kind="JPEG")[:-20]])
def test_an_empty_or_cut_picture_is_named(tmp_path, data):
    with pytest.raises(HarpError, match=r"2\.png is not a whole picture"):
        load("folder", write(tmp_path, train__a__1=png(RED), train__a__2=data, test__a__1=png(RED)))


def test_a_class_name_that_is_no_utf8_is_refused(tmp_path):
    for part in ("train", "test"):
        folder = os.fsencode(tmp_path) + f"/{part}/".encode() + b"caf\xe9"
        os.makedirs(folder)
        with open(folder + b"/1.png", "wb") as file:
            file.write(png(RED))
    with pytest.raises(HarpError, match=r"the class name 'caf\\udce9' is no UTF-8; rename it"):
        load("folder", tmp_path)


def test_accents_may_be_encoded_differently_in_the_parts(tmp_path):
    names = {"train": unicodedata.normalize("NFC", "café"), "test": unicodedata.normalize("NFD", "café")}
    for part, name in names.items():
        write(tmp_path, **{f"{part}__{name}__1": png(RED)})
    data = load("folder", tmp_path)
    assert (data.classes, len(data.test)) == (("caf\u00e9",), 1)


def test_two_classes_that_look_alike_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        write(tmp_path, **{f"train__{unicodedata.normalize(form, 'café')}__1": png(RED)})
    write(tmp_path, test__a__1=png(RED))
    with pytest.raises(HarpError, match="two class folders called 'caf\u00e9', with accents encoded differently"):
        load("folder", tmp_path)


def test_letters_of_both_cases_are_two_classes(tmp_path):
    write(tmp_path, train__a__1=png(RED), train__A__1=png(BLUE), test__a__1=png(RED))
    data = load("folder", tmp_path)
    assert (data.classes, data.test.labels.tolist()) == (("A", "a"), [1])


def test_a_test_folder_without_classes_is_passed_over_for_val(tmp_path):
    write(tmp_path, train__a__1=png(RED), test__1=png(RED), val__a__1=png(BLUE))
    data = load("folder", tmp_path)
    assert data.test.images[0, :, 0, 0].tolist() == list(BLUE)
    (note,) = data.notes
    assert note.endswith(f"holds no class folder, so the test images are those of {tmp_path / 'val'}")


def test_an_empty_class_is_refused(tmp_path):
    write(tmp_path, train__a__1=png(RED), test__a__1=png(RED))
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(HarpError, match=r"b holds no image; expected files ending in .png"):
        load("folder", tmp_path)
