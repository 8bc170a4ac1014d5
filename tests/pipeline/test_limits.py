from dataclasses import replace

import pytest
import torch
from PIL import Image

from harp.config import plan
from harp.errors import HarpError
from harp.pipeline.limits import check_sizes, check_width
from harp.stages import run_stages
from tests.tiny import workspace

SHAPE = {"classes": 10, "channels": 1, "size": 8}


@pytest.mark.parametrize("stage", ["pretrain", "prune", "finetune"])
def test_a_batch_of_more_than_all_images_is_refused_before_any_stage(tmp_path, stage):
    work = workspace(tmp_path / "run", **{stage: {"batch_size": 129}})
    with pytest.raises(HarpError, match=f"^{stage}: batch size 129 for 128 images; expected 1 to 128$"):
        run_stages(work)
    assert not (tmp_path / "run").exists()


def test_a_padding_as_wide_as_the_images_is_refused_before_any_stage(tmp_path):
    work = workspace(tmp_path / "run", data={"pad": 8})
    with pytest.raises(HarpError, match="pad is 8 for images of 8 pixels; expected 0 to 7"):
        run_stages(work)
    assert not (tmp_path / "run").exists()


def test_masks_that_are_not_there_are_missed_before_any_stage(tmp_path):
    work = workspace(tmp_path / "run", finetune={"masks": "gone.safetensors"})
    with pytest.raises(HarpError, match=r"finetune\.masks: no file gone\.safetensors"):
        run_stages(work)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("width", "weights"), [(1e4, "63,079"), (1e6, "630,784,"), (1e9, "9,223,372,037")])
def test_a_network_wider_than_memory_is_counted_and_not_built(width, weights):
    # 15,769,621,440,010 weights and some statistics of four bytes, 10,000 times as many, and more than 2^63 bytes.
    with pytest.raises(HarpError, match=rf"would have {weights}[\d,]* GB of weights"):
        check_width("digits_cnn", width, **SHAPE)


def test_widths_that_fit_are_left_alone():
    for width in (0.1, 1, 2, 8):
        check_width("digits_cnn", width, **SHAPE)
    check_width("net.py:make", 1e6, **SHAPE)


def test_the_recipes_width_is_checked(tmp_path):
    work = workspace(tmp_path / "run", model={"width": 1e5})
    with pytest.raises(HarpError, match="choose a smaller width"):
        run_stages(work)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"train": ["cat"], "test": ["cat"]}, "folder has one class, cat: there is nothing to learn"),
        ({"train": ["cat", "dog"], "test": ["cat", "dog"]}, None),
    ],
)
def test_images_of_one_class_are_refused_before_any_stage(tmp_path, folders, words):
    for part, names in folders.items():
        for name in names:
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / "images" / part / name / f"{number}.png")
    about = {"name": "folder", "path": str(tmp_path / "images"), "train": None, "holdout": 0.25}
    work = workspace(tmp_path / "run", data=about)
    if words is None:
        assert work.split.dataset.classes == ("cat", "dog")
        return
    with pytest.raises(HarpError, match=words):
        run_stages(work)
    assert not (tmp_path / "run").exists()


def test_training_images_that_are_all_of_one_of_the_classes_are_refused(tmp_path):
    work = workspace(tmp_path / "run")
    of_three = work.split.train.take(torch.nonzero(work.split.train.labels == 3).flatten())
    stages = plan(work.recipe.stages)
    with pytest.raises(HarpError, match=rf"^all {len(of_three)} training images are of the class 3; expected at least"):
        check_sizes(work.recipe, replace(work.split, train=of_three), stages)
    check_sizes(work.recipe, work.split, stages)
