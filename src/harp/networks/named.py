"""Any network by name: a file of a run, a run, or a factory with a file of weights; as a recipe that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from harp import models
from harp.ambient import pinned
from harp.config import (
    EXPORT,
    KINDS,
    Planned,
    find_recipe,
    is_recipe,
    loses_channels,
    make_recipe,
    plan,
    read_recipe,
)
from harp.data import DATA
from harp.errors import HarpError
from harp.export import Rebuilt, is_package, load
from harp.networks.trust import check_named
from harp.own import is_own
from harp.package import Manifest, read
from harp.pipeline.edits import check_sources
from harp.pipeline.kept import settings_in
from harp.pipeline.outside import check_file
from harp.pipeline.workspace import Workspace, default_folder
from harp.trees import digest
from harp.zoo import PREFIX, Card, find

SECTIONS = ("seed", "device", "threads", "data", "model", "threat", "precision", "stages", *KINDS)


@dataclass(frozen=True)
class Network:
    """A network that somebody named: the recipe's settings that go with it, its weights, and a word for it.

    `told_by` is the run's folder whose own words the settings are, None where they are the user's. `images` are a data
    set that a package names and that would have to be fetched, or made by code: no setting, since a file says so.
    `card` is what the zoo says of it.
    """

    label: str
    settings: Mapping[str, Any]
    weights: Path | None
    told_by: Path | None = None
    images: str | None = None
    card: Card | None = None


def is_network(target: str) -> bool:
    """Whether `target` names a network, not a recipe."""
    run = Path(target, "recipe.yaml").is_file()  # a folder may happen to be called as a recipe is
    return run or target.endswith(".safetensors") or ":" in target or target in models.MODELS


def find_network(target: str, weights: Path | None = None) -> Network:
    """The network that `target` names: a safetensors file, a run's folder, a recipe with a run, a model's name, or
    `zoo:NAME`.

    A file inside a run brings that run's settings of data, model and threat along, a package elsewhere what its
    manifest says of data and threat. Raises `HarpError` for a folder without a network, a recipe without a run, a file
    that is not there, and weights given twice.
    """
    if target.startswith(PREFIX):
        return _in_zoo(target, weights)
    path = Path(target)
    if not is_network(target) and is_recipe(target):
        path = default_folder(make_recipe(read_recipe(find_recipe(target))))
        if not path.is_dir():
            raise HarpError(f"the recipe {target} has no run in {path}; `harp run {target}` makes it")
    if path.is_dir():
        # The one to ship first.
        folders = [EXPORT, *(stage.folder for stage in reversed(_stages(path)))]
        files = [path / folder / "model.safetensors" for folder in folders]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise HarpError(f"{path} holds no network; expected a run's folder with a finished training stage")
        return find_network(str(found), weights)
    if not target.endswith(".safetensors"):
        words = [target.rpartition(":")[2].replace("/", "-"), *([weights.stem] if weights else [])]
        return Network("-".join(words), {"model": {"name": target}}, weights)
    if weights is not None:
        raise HarpError(
            f"{target} is a file of weights, and {weights} another; expected one of them, or a model's name"
        )
    if not path.is_file():
        raise HarpError(f"no file {target}")
    if folder := run_of(path):
        kept = settings_in(folder / "recipe.yaml", SECTIONS)
        _check_sources(folder, kept, path)
        return Network("-".join(path.relative_to(folder.parent).parts[:-1]), kept, path, folder)
    if not is_package(path):
        return Network(path.stem, {}, path)
    settings, images = _claimed(path)
    return Network(path.stem, settings, path, images=images)


def _in_zoo(target: str, weights: Path | None) -> Network:
    if weights is not None:
        raise HarpError(f"{target} has its weights, and {weights} others; expected one of them")
    entry = find(target.removeprefix(PREFIX))
    settings = {**entry.card.settings, "model": {"name": str(entry.path)}}
    return Network(entry.name, settings, entry.path, card=entry.card)


def _stages(folder: Path) -> tuple[Planned, ...]:
    path = folder / "recipe.yaml"
    return plan(make_recipe(settings_in(path)).stages) if path.is_file() else plan()


def _check_sources(run: Path, recipe: Mapping[str, Any], weights: Path) -> None:
    name = make_recipe(recipe).model.name
    check_sources(run, [name], f"put it back, or say that they go together: {name} with --weights {weights}")


def run_of(path: Path) -> Path | None:
    """The folder of the run that the file lies in, if it lies in one."""
    return next((folder for folder in (path.parent, path.parent.parent) if (folder / "recipe.yaml").is_file()), None)


def dense_of(network: Network) -> Network | None:
    """The network of the same run from which channels were removed; None where there was none or it is not known."""
    if network.weights is None or not loses_channels(make_recipe(network.settings)):
        return None
    path = network.weights.parent.parent / plan()[0].folder / "model.safetensors"
    return replace(network, label=f"{network.label}, before pruning", weights=path) if path.is_file() else None


def _claimed(path: Path) -> tuple[dict[str, Any], str | None]:
    """A package's own words as settings, and the name of a data set that nothing here is registered under."""
    manifest: Manifest = read(path).manifest
    data, threat = manifest.provenance.get("data"), manifest.threat
    settings: dict[str, Any] = {"model": {"name": str(path)}}
    images = data.get("name") if isinstance(data, Mapping) else None
    known = isinstance(images, str) and not is_own(images) and images in DATA
    if known:
        settings["data"] = {"name": images}
    if threat is not None:
        settings["threat"] = {"norm": f"{threat.norm:g}", "eps": threat.eps}
    return settings, images if isinstance(images, str) and not known else None


def loaded(work: Workspace, weights: Path | None, gradients: bool = False) -> nn.Module:
    """The recipe's network in eval mode with the weights in the file; without one, as its factory makes it.

    A package is its own network, and answers without gradients unless they are asked for: then PyTorch computes it.
    Raises `HarpError` where the file is not all that its
    network knows.
    """
    if weights is not None and is_package(weights):
        return Rebuilt(read(weights).graph) if gradients else load(weights, work.recipe.threads)
    if weights is None:
        return work.model().eval()
    model = work.loaded(weights, small=True)
    check_file(work, model, weights, small=True)
    return model.eval()


def untrained(work: Workspace) -> bool:
    """Whether the recipe's network, as its factory makes it, has weights that another seed would draw otherwise."""
    return digest(work.model().state_dict()) != digest(work.model("untrained").state_dict())


@pinned()
def load_model(
    model_name: str,
    weights: Path | str | None = None,
    dataset: str | None = None,
    data_dir: Path | str | None = None,
    trust: bool = False,
) -> nn.Module:
    """A network in eval mode that takes images [n, c, h, w] in [0, 1] to logits [n, classes].

    `model_name` is a run's folder, a safetensors file in it, a package (as by `harp.load`), a network that comes with
    harp (`zoo:NAME`, see `harp list zoo`; with gradients), or, with `weights` (a
    safetensors state dictionary) and the `dataset` it is for, anything that `harp list models` and the README name:
    `resnet18`, `timm:NAME`, `path/to/file.py:factory`. Code that a run's folder names is run, and what it names of a
    hub is fetched, if this user did so before by a name of his own, or says `trust`. Raises `HarpError` where it is
    not, where there is no such network, or the weights are another's.
    """
    network = find_network(model_name, Path(weights) if weights else None)
    data = {**network.settings.get("data", {}), **({"name": dataset} if dataset else {})}
    if data_dir:
        data["path"] = str(data_dir)
    if "name" not in network.settings.get("model", {}):
        raise HarpError(
            f"{model_name} lies in no run; load_model(NAME, weights={model_name!r}) tells whose weights it is"
        )
    # How many threads repeat a card's evaluation is nothing to a program that only wants the network.
    settings = {name: value for name, value in network.settings.items() if name != "threads" or network.card is None}
    recipe = make_recipe({**settings, "data": data})
    check_named(recipe, network.told_by, {"data": dataset}, "trust=True" if not trust else None)
    return loaded(Workspace(recipe), network.weights, gradients=network.card is not None)
