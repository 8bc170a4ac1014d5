"""Recipes for sets that are not here, each through every stage on a few pictures: their own settings, but smaller."""

import pytest
import transformers
import yaml
from rich.console import Console

from harp.config import RECIPES, make_recipe
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.runs import read_json
from harp.stages import run_stages
from tests.stages.test_pictures import picture_folder

QUICK, SLOW = ("imagenet-vit-s",), pytest.mark.slow
NAMES = ["imagenet-resnet50", "tiny-imagenet", "svhn-resnet18", "svhn-vgg16", "cifar100-resnet18", "cifar100-vgg16"]
SHORT = {"epochs": 1, "batch_size": 8}


def small(values, folder):
    """The recipe's values, all that takes time or room made small: pictures, network, epochs, batches."""
    vit = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    values["data"] |= {
        "name": "folder",
        "path": str(picture_folder(folder / "images")),
        "size": 64 if values["data"].get("crop") else 32,
    }
    values["data"]["holdout"] = 0.2
    values["data"] |= {"pad": 4} if values["data"].get("pad") else {}
    if values["model"]["name"].startswith("timm:"):
        transformers.ViTConfig(patch_size=8, **vit).save_pretrained(folder / "vit")
        values["model"]["name"] = f"hf:{folder / 'vit'}"
    else:
        values["model"]["width"] = 0.125
    for stage in ("pretrain", "prune", "finetune"):
        values[stage] |= SHORT
    values["prune"]["keep"] = 0.1
    return {**values, "attack": {"steps": 2}, "evaluation": {"attacks": ["fgsm"], "doubts": 4}}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=SLOW) for name in NAMES)])
def test_every_stage_of_a_recipe(name, tmp_path):
    values = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    run_stages(Workspace(make_recipe(small(values, tmp_path)), tmp_path / "run", Display(Console(quiet=True))))
    result = read_json(tmp_path / "run" / "evaluation" / "results.json")
    assert set(result["models"]) == {"dense", "pruned", "finetuned"}
    assert (tmp_path / "run" / "export" / "package.safetensors").exists()
