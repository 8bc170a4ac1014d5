"""Every example runs as it stands, on a third of the digits, and ends in a file with as many weights as it says."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.numpy import load_file

from harp import data

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_ends_in_an_exact_budget(path, tmp_path, monkeypatch, capsys):
    whole = data.load("digits")
    few = replace(whole, train=whole.train.take(torch.arange(448)), test=whole.test.take(torch.arange(50)))
    monkeypatch.setattr(data, "load", lambda name: few)
    monkeypatch.chdir(tmp_path)
    # In this process, which can import transformers and torchvision beside a CPU torch (conftest.py).
    runpy.run_path(str(path), run_name="__main__")
    said = re.search(r"kept (\d+) of (\d+) weights: (\S+)", capsys.readouterr().out)
    assert said is not None
    kept, total, file = int(said[1]), int(said[2]), tmp_path / said[3]
    model, masks = load_file(file), load_file(file.with_name("masks.safetensors"))
    assert sum(mask.size for mask in masks.values()) == total
    assert kept == round(0.05 * total)
    assert sum(numpy.count_nonzero(model[name]) for name in masks) == kept
