"""Image classifiers of `transformers`: `hf:FOLDER` from a local folder, `hf:OWNER/NAME` from the Hugging Face hub."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from harp.consent import remember
from harp.errors import HarpError
from harp.extras import need
from harp.models.base import Size

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_ADAPTER = "adapter_config.json"
_SAFE = {"trust_remote_code": False}
_LARGEST = 16_000_000  # bytes of an index or a configuration: the largest models need some hundred thousand
_PLAIN = (
    None,
    "eager",
    "sdpa",
)  # PyTorch's own; other words fetch kernels, which are code, from the hub


def build_hf(source: str, *, classes: int, channels: int, size: Size) -> nn.Module:
    """The image classifier in a folder or on the hub, in float32 and in training mode.

    With weights (safetensors; never a pickle, and no code but that of `transformers` runs) they are loaded, and the
    configuration stays as it is but for the number of classes: a head of another number of classes, or none, is
    replaced by a fresh one. A folder that holds `config.json` alone gives an untrained network for `classes`,
    `channels` and `size`. What is not a folder is an id on the hub, which needs a connection or a filled cache.

    Raises `HarpError` where `transformers` cannot be imported; for a configuration that asks for kernels of attention
    beyond PyTorch's own, or for another file of weights; for an index that names a file elsewhere; for a folder without
    `config.json`, or with weights in another format; where weights other than the head's are missing or of another
    shape; and for whatever else `transformers` refuses, in one line.
    """
    hf, place = need("transformers", "transformers", f"model {source!r}"), source.partition(":")[2]
    folder = Path(place).expanduser()
    try:
        if not folder.is_dir():
            remember([source])
            _check_config(source, hf.PretrainedConfig.get_config_dict(place)[0])
            return _trained(hf, source, place, classes, local=False)
        whole = _holds_weights(source, folder)
        _check_config(source, _json(source, folder / "config.json"))
        if whole:
            return _trained(hf, source, str(folder), classes, local=True)
        return _untrained(hf, folder, classes=classes, channels=channels, size=size)
    except HarpError:
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(error, ImportError) and cause.__cause__ is not None:
            cause = cause.__cause__  # transformers hides what really failed, such as a torchvision of another torch
        reason = str(cause).strip().split("\n")[0]
        hint = "" if folder.is_dir() else f" (there is no folder {place} here, so it was taken for an id on the hub)"
        raise HarpError(f"model {source!r} cannot be loaded{hint}: {type(cause).__name__}: {reason}") from error


def _holds_weights(source: str, folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        raise HarpError(f"model {source!r}: there is no config.json in the folder {folder}")
    if (folder / _ADAPTER).exists():
        raise HarpError(f"model {source!r}: {_ADAPTER} names another network, and only a whole one is read")
    if (folder / _WEIGHTS[1]).is_file():
        _check_index(source, folder)
    if any((folder / name).is_file() for name in _WEIGHTS):
        return True
    others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.h5") for path in folder.glob(pattern))
    if others:
        raise HarpError(f"model {source!r}: {others[0]} is not read; expected {_WEIGHTS[0]}, or config.json alone")
    return False


def _check_index(source: str, folder: Path) -> None:
    """Raises `HarpError` for shards that are no safetensors files in the folder itself."""
    index = _json(source, folder / _WEIGHTS[1])
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise HarpError(f"model {source!r}: {_WEIGHTS[1]} has no weight_map; expected a file for each weight")
    for name in dict.fromkeys(map(str, shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise HarpError(
                f"model {source!r}: {_WEIGHTS[1]} names {name!r}; expected .safetensors files beside it and no others"
            )


def _check_config(source: str, config: Any) -> None:
    for name, value in _entries(config):
        if name.endswith("attn_implementation"):
            chosen = list(value.values()) if isinstance(value, Mapping) else [value]
            if strange := [word for word in chosen if word not in _PLAIN]:
                raise HarpError(
                    f"model {source!r}: its configuration asks for the kernel {strange[0]!r}, which may be code of the "
                    "hub; expected eager or sdpa, or nothing"
                )
        if name == "transformers_weights" and value is not None:
            raise HarpError(f"model {source!r}: its configuration names {value!r} as weights; expected {_WEIGHTS[0]}")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """All names and values of a configuration, those of its parts, too."""
    for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield str(name), inner
        if isinstance(inner, Mapping | list):
            yield from _entries(inner)


def _json(source: str, path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST:
        raise HarpError(f"model {source!r}: {path.name} has {path.stat().st_size:,} bytes; expected up to {_LARGEST:,}")
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise HarpError(f"model {source!r}: {path.name} is no object of JSON")
    return value


def _untrained(hf: Any, folder: Path, *, classes: int, channels: int, size: Size) -> nn.Module:
    config = hf.AutoConfig.from_pretrained(folder, local_files_only=True, num_labels=classes, **_SAFE)
    config.architectures = config.architectures or []  # LeViT's loader walks it, and a bare file may have none
    for name, value in (("num_channels", channels), ("image_size", size)):
        if hasattr(config, name):
            setattr(config, name, value)
    model: nn.Module = hf.AutoModelForImageClassification.from_config(config, **_SAFE)
    return model.train()


def _trained(hf: Any, source: str, place: str, classes: int, local: bool) -> nn.Module:
    model, report = hf.AutoModelForImageClassification.from_pretrained(
        place,
        num_labels=classes,
        ignore_mismatched_sizes=True,  # what may mismatch is checked below
        local_files_only=local,
        use_safetensors=True,
        output_loading_info=True,
        **_SAFE,
    )
    body = f"{model.base_model_prefix}."
    wrong = [key for key in report["missing_keys"] if key.startswith(body)]
    wrong += [entry[0] for entry in report["mismatched_keys"] if entry[0].startswith(body)]
    if wrong:
        raise HarpError(f"model {source!r}: {sorted(wrong)[0]} is missing from its weights or of another shape there")
    # It comes in the precision of the file and with its weights where they lay in it. A kernel may sum in another order
    # at addresses that are not aligned, so that a copy would not give bit for bit the same logits (5e-7 off, measured).
    trained: nn.Module = deepcopy(model.float().train())
    return trained
