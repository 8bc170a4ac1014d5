import os
from pathlib import Path

import pytest
import torch

from harp.data import load
from harp.errors import HarpError

from .samples import RED, cifar_pickles, parquet_set, png, shard

REAL = Path(os.environ.get("HARP_DATA") or "../shared/data") / "cifar10"
TEN = [f"class {number}" for number in range(10)]


@pytest.mark.parametrize("make", [cifar_pickles, lambda root: parquet_set(root, TEN)], ids=["pickles", "parquet"])
def test_either_form_is_found(tmp_path, make):
    data = load("cifar10", make(tmp_path))
    assert (data.name, data.flip, data.pad, data.classes) == ("cifar10", True, 4, tuple(TEN))


def test_cifar_100_in_parquet_has_the_columns_of_the_hub(tmp_path):
    names = [f"class {number}" for number in range(100)]
    for part in ("train", "test"):
        shard(tmp_path / f"{part}-0.parquet", [png(RED, (32, 32))] * 2, [99, 0], names, ("img", "fine_label"))
    data = load("cifar100", tmp_path)
    assert (data.flip, data.pad, data.classes[99]) == (True, 4, "class 99")
    assert data.train.labels.tolist() == data.test.labels.tolist() == [99, 0]


def test_the_environment_names_the_default_place(tmp_path, monkeypatch):
    monkeypatch.setenv("HARP_DATA", str(tmp_path))
    parquet_set(tmp_path / "cifar10", TEN)
    parquet_set(tmp_path / "cifar100", TEN * 10)
    assert len(load("cifar10").classes) == 10
    assert len(load("cifar100").classes) == 100


def test_without_it_the_shared_folder_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.delenv("HARP_DATA", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(HarpError, match=r"\.\./shared/data/cifar10 does not exist; .* HARP_DATA or data\.path"):
        load("cifar10")
    parquet_set(tmp_path / "shared" / "data" / "cifar10", TEN)
    assert len(load("cifar10").train) == 3


def test_another_set_is_refused(tmp_path):
    with pytest.raises(HarpError, match="holds neither form; expected a folder with train"):
        load("cifar10", tmp_path)
    with pytest.raises(HarpError, match="has 2 classes; expected 100"):
        load("cifar100", parquet_set(tmp_path))


@pytest.mark.skipif(not REAL.exists(), reason=f"no CIFAR-10 at {REAL}; HARP_DATA names the folder that holds cifar10")
def test_the_real_test_part_is_itself(tmp_path):
    # As both parts: decoding all 60,000 pictures takes 7 s.
    for part in ("train", "test"):
        (tmp_path / f"{part}-0.parquet").symlink_to((REAL / "test-00000-of-00001.parquet").resolve())
    data = load("cifar10", tmp_path)
    assert data.train.labels.bincount().tolist() == data.test.labels.bincount().tolist() == [1000] * 10
    assert (data.classes[0], data.classes[9], data.size) == ("airplane", "truck", (32, 32))
    # The test part's channel means, as they are commonly quoted.
    means = data.test.images.sum((0, 2, 3)) / (255 * 10_000 * 32 * 32)
    assert torch.allclose(means, torch.tensor([0.4942, 0.4851, 0.4504]), atol=1e-4)
