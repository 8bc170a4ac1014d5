import pytest

from harp.errors import HarpError
from harp.pipeline.limits import check_width
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
