"""The files to ship: weights with their masks baked in, a package, ONNX; each checked against what was evaluated."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from harp.config import EXPORT
from harp.errors import HarpError
from harp.export import bake
from harp.networks.packing import onnx_file, origin, pack_network
from harp.pipeline.outside import OTHER
from harp.pipeline.workspace import Workspace
from harp.runs import load_tensors, read_json, write_json
from harp.sparsity import Masks
from harp.stages.files import masks_of


def export(work: Workspace) -> None:
    """export/: the last training stage's model with its masks baked in, checked bit by bit against the one measured."""
    last = work.stages[-1]
    if work.run.done(last.folder) is None:
        raise HarpError(f"{work.run.folder} has no finished {last.name} stage; run `harp {last.kind}` there first")
    work.open()
    model = work.loaded(work.run.at(last.folder) / "model.safetensors", small=True)
    path = None if last.kind == "pretrain" else masks_of(work, last)
    masks = None if path is None else Masks(load_tensors(path))
    images = work.in_order(work.split.test, work.recipe.evaluation.batch_size)
    blank = work.smaller(model.state_dict(), OTHER)  # under the same draw it would hide what the file lacks
    sizes = {site.name: site.size for site in work.sites(model)}
    counts = {site.name: (site.size, sizes[site.name]) for site in work.sites(work.model())}
    folder = work.run.at(EXPORT)
    bake(model, masks, folder, images.once(), blank, counts)
    notes = [*work.sources.notes(), *_ship(work, model, folder)]
    made = {"recipe": work.recipe.model_dump(mode="json"), "environment": work.environment()}
    work.run.finish(EXPORT, {"notes": notes, **made})


def _ship(work: Workspace, model: nn.Module, folder: Path) -> Iterator[str]:
    """The other files, entered in the manifest; a note for each that cannot be made of this network, and why."""
    for name, make in _others(work, model, folder):
        try:
            made = make()
        except HarpError as error:
            work.display.say(f"no {name}: {error}")
            yield f"no {name}: {error}"
        else:
            write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), name: made})


def _others(work: Workspace, model: nn.Module, folder: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    found = origin(work.run.folder, folder / "model.safetensors", work.stages)
    yield "package", lambda: pack_network(work, model, folder / "package.safetensors", found)
    if work.recipe.export.onnx:
        yield "onnx", lambda: onnx_file(work, model, folder / "model.onnx")
