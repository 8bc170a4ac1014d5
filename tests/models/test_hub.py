import json
import socket
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harp.errors import HarpError
from harp.models import Logits, build

from ..foreign import FOREIGN, bare, images


def load(folder, **options):
    return build(f"hf:{folder}", **{"classes": 10, "channels": 3, "size": 32, **options})


@pytest.fixture
def saved(tmp_path):
    """A folder with a ViT's configuration and weights."""
    bare("vit").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_weights_gives_the_network_that_was_saved(tmp_path, name):
    model: Any = FOREIGN[name]().eval()
    model.model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, Logits)
    assert all(module.training for module in loaded.modules())
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images()), model(images()))


def test_half_precision_weights_come_in_single_precision(saved):
    bare("vit").half().save_pretrained(saved)
    assert {parameter.dtype for parameter in load(saved).parameters()} == {torch.float32}


def test_a_head_of_other_classes_is_replaced_and_nothing_else(saved):
    before, after = bare("vit").state_dict(), load(saved, classes=7).model.state_dict()
    assert after["classifier.weight"].shape == (7, 32)
    assert all(torch.equal(value, after[name]) for name, value in before.items() if not name.startswith("classifier"))


def change(folder, **entries):
    state = {**load_file(folder / "model.safetensors"), **entries}
    state = {name: value for name, value in state.items() if value is not None}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_head_is_made(saved):
    change(saved, **{"classifier.weight": None, "classifier.bias": None})
    assert load(saved).model.classifier.weight.shape == (10, 32)


@pytest.mark.parametrize("value", [None, torch.zeros(1, 5, 32)])
def test_weights_that_lack_a_part_of_the_body_are_refused(saved, value):
    change(saved, **{"vit.embeddings.position_embeddings": value})
    with pytest.raises(
        HarpError, match=r"vit\.embeddings\.position_embeddings is missing from its weights or of another"
    ):
        load(saved)


def test_weights_for_other_images_are_refused(saved):
    with pytest.raises(HarpError, match="the network fails on images of 3 x 40 x 40"):
        load(saved, size=40)


def test_a_configuration_alone_gives_an_untrained_network_for_the_data(saved):
    (saved / "model.safetensors").unlink()
    torch.manual_seed(0)
    model = load(saved, classes=7, channels=1, size=40)
    assert model(torch.rand(2, 1, 40, 40)).shape == (2, 7)
    torch.manual_seed(0)
    again = load(saved, classes=7, channels=1, size=40).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_bare_configuration_of_any_kind_is_enough(tmp_path, name):
    bare(name).config.save_pretrained(tmp_path)
    assert load(tmp_path, classes=3)(images()).shape == (len(images()), 3)


def test_mean_and_std_wrap_the_network_once(saved):
    model = load(saved, normalise=([0.5] * 3, [0.25] * 3))
    assert not isinstance(model.model, Logits)
    assert set(model.state_dict()) == {"mean", "std", *(f"model.{name}" for name in bare("vit").state_dict())}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pth", "tf_model.h5"])
def test_a_pickle_is_never_read(saved, name):
    (saved / "model.safetensors").rename(saved / name)
    with pytest.raises(HarpError, match=f"{name} is not read; expected model.safetensors, or config.json alone"):
        load(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no config.json in the folder"),
        ("{", "cannot be loaded: .*Error"),
        ('{"model_type": "bert"}', "cannot be loaded: ValueError: .*BertConfig"),
        ('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}', "cannot be loaded: ValueError"),
    ],
)
def test_a_folder_that_is_no_image_classifier_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(HarpError, match=message):
        load(tmp_path)


def test_what_a_failed_import_is_caused_by_is_named(saved, monkeypatch):
    def broken(*args, **options):
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'ViT'") from error

    monkeypatch.setattr("transformers.AutoModelForImageClassification.from_pretrained", broken)
    with pytest.raises(HarpError, match=r"cannot be loaded: RuntimeError: operator torchvision::nms does not exist$"):
        load(saved)


def test_an_id_that_cannot_be_fetched_is_one_sentence(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HarpError, match=r"there is no folder nobody/nothing here, so it was taken for an id") as error:
        load("nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_width_is_refused(saved):
    with pytest.raises(HarpError, match="takes no width"):
        load(saved, width=2.0)


def test_a_folder_is_read_without_the_network(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert isinstance(load(saved), nn.Module)


def configured(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


@pytest.fixture
def offline(monkeypatch):
    """Whoever looks an address up fails the test, as nothing here may ask the network."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))


@pytest.mark.parametrize("shard", ["../x.safetensors", "weights.bin", "a/b.safetensors", "..", "/x.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused_before_anything_is_read(saved, monkeypatch, shard):
    (saved / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"vit.layernorm.weight": shard}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr("transformers.AutoModelForImageClassification.from_pretrained", lambda *_, **__: 1 / 0)
    with pytest.raises(HarpError, match=r"index\.json names .*; expected \.safetensors files beside it"):
        load(saved)


def test_shards_beside_their_index_are_read(saved):
    before = bare("vit")
    (saved / "model.safetensors").unlink()
    before.save_pretrained(saved, max_shard_size="20KB")
    assert len(list(saved.glob("model-*.safetensors"))) > 1
    after = load(saved).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.state_dict().items())


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}'])
def test_an_index_without_shards_is_named(saved, index):
    (saved / "model.safetensors.index.json").write_text(index)
    with pytest.raises(HarpError, match=r"index\.json (has no weight_map|is no object)"):
        load(saved)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "entries",
    [
        {"_attn_implementation": "somebody/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"attn_implementation": {"": "somebody/kernel@v1:attention"}},
        {"backbone_config": {"parts": [{"_attn_implementation": "somebody/kernel"}]}},
    ],
)
def test_kernels_of_the_hub_are_refused(saved, offline, entries, whole):
    configured(saved, **entries)
    if not whole:
        (saved / "model.safetensors").unlink()
    with pytest.raises(HarpError, match=r"its configuration asks for the kernel '(somebody/kernel|flash_attention_2)"):
        load(saved)


def test_pytorchs_own_attention_may_be_asked_for(saved):
    configured(saved, _attn_implementation="eager")
    assert load(saved).model.config._attn_implementation == "eager"


def test_weights_under_another_name_and_adapters_of_other_networks_are_refused(saved, offline):
    configured(saved, transformers_weights="weights.bin")
    with pytest.raises(HarpError, match=r"names 'weights\.bin' as weights; expected model\.safetensors"):
        load(saved)
    (saved / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/net"}')
    with pytest.raises(HarpError, match=r"adapter_config\.json names another network"):
        load(saved)


@pytest.mark.parametrize("whole", [True, False])
def test_code_beside_a_configuration_never_runs(saved, offline, whole):
    (saved / "own.py").write_text("raise SystemExit('it ran')\n")
    names = {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Net"}
    configured(saved, auto_map=names)
    if not whole:
        (saved / "model.safetensors").unlink()
    assert type(load(saved).model).__name__ == "ViTForImageClassification"  # the class of that name in transformers
