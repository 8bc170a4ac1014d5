"""Pictures in files through every stage: images that are not square, and a set that is read as it is needed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import harp
from harp.data import Stored, Streamed
from harp.errors import HarpError
from harp.runs import read_json
from harp.stages import run_stages, training as train_module
from harp.training import fit
from tests.tiny import results, workspace


def picture_folder(root: Path) -> Path:
    """40 training and 8 test pictures of sizes of their own in two classes: dark ones, and bright ones."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 8)):
        for number in range(count):
            low = 100 * (number % 2)
            size = (int(draws.integers(24, 60)), int(draws.integers(40, 90)), 3)
            place = root / part / ("dark", "bright")[number % 2] / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(low, low + 100, size, dtype=np.uint8)).save(place)
    return root


def made(folder: Path, images: Path, **data: object):
    short = {"epochs": 2, "batch_size": 8, "checkpoint_every": "3it"}
    return workspace(
        folder,
        data={"name": "folder", "path": str(images), "train": None, "size": [24, 40], **data},
        model={"name": "cifar_cnn", "width": 0.125},
        pretrain=short,
        prune=short,
        finetune=short,
        evaluation={"images": 8, "doubts": 4, "attacks": ["fgsm", "pgd"]},
    )


def test_images_that_are_not_square_go_through_every_stage(tmp_path):
    work = made(tmp_path / "run", picture_folder(tmp_path / "images"), stream="always")
    run_stages(work)
    assert work.split.dataset.size == (24, 40)
    result = read_json(tmp_path / "run" / "evaluation" / "results.json")
    assert set(result["models"]) == {"dense", "pruned", "finetuned"}
    # The engine computes what was exported.
    x, _ = next(work.in_order(work.split.test, 8).once())
    assert x.shape == (8, 3, 24, 40)
    model = work.loaded(tmp_path / "run" / "export" / "model.safetensors").eval()
    engine = harp.load(tmp_path / "run" / "export" / "package.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(engine(x)), model(x), rtol=1e-4, atol=1e-4)
    record = read_json(tmp_path / "run" / "evaluation" / "finetuned" / "result.json")
    assert "known by their names and sizes" in record["data"]["notes"][0]


def test_a_streamed_run_that_was_killed_ends_with_the_same_bits(tmp_path, monkeypatch):
    images, varied = picture_folder(tmp_path / "images"), {"stream": "always", "crop": [0.3, 1], "jitter": 0.2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_stages(made(whole, images, **varied), ("pretrain",))

    def dies(step):
        def callback(moment):
            if moment.step == step:
                raise KeyboardInterrupt

        return callback

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit", lambda *args, on, **rest: fit(*args, on=[*on, dies(5)], **rest))
        with pytest.raises(KeyboardInterrupt):
            run_stages(made(killed, images, **varied), ("pretrain",))
    run_stages(made(killed, images, **varied), ("pretrain",))
    assert results(killed) == results(whole)
    assert read_json(killed / "1-pretrain" / "done.json")["resumed_at"] == 3


def test_what_is_not_read_is_not_mixed_with_what_is(tmp_path):
    images = picture_folder(tmp_path / "images")
    work = made(tmp_path / "run", images, stream="always")
    assert isinstance(work.split.train, Stored)
    assert isinstance(work.batches("pretrain", 8), Streamed)
    work.open()
    work.run.release()
    with pytest.raises(HarpError, match="the images of folder are not those"):
        made(tmp_path / "run", images, stream="never").open()


def test_a_network_for_square_images_says_what_it_cannot_take(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def make(classes, channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 24 * 24, classes))\n"
    )
    work = made(tmp_path / "run", picture_folder(tmp_path / "images"))
    settings = work.recipe.model.model_copy(update={"name": f"{file}:make", "width": 1.0})
    work.recipe = work.recipe.model_copy(update={"model": settings})
    with pytest.raises(HarpError, match="the network fails on images of 3 x 24 x 40"):
        work.model()
