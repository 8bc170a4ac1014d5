"""What a run's folder holds before its first stage, and again whenever it is opened."""

from typing import TYPE_CHECKING

from harp.config import EVALUATION, write_recipe
from harp.errors import HarpError
from harp.pipeline.begun import BEGUN
from harp.report import PAGES
from harp.runs import checked, read_json, remove, write_atomic, write_json
from harp.training import clear
from harp.written import DataSet

if TYPE_CHECKING:
    from harp.pipeline.workspace import Workspace


def begin(work: "Workspace") -> None:
    """The folder is this process's, and holds the resolved recipe, the environment and what the images are.

    Gone are a report, which does not tell what is done now, and what a kill left of stages that had ended. Raises
    `HarpError` where the folder was begun with other images.
    """
    split, folder = work.split, work.run.folder
    work.run.claim()
    work.sources.record()
    for page in PAGES:
        remove(folder / page)
    _clear(work)
    record = {
        "name": split.dataset.name,
        "fingerprint": split.dataset.fingerprint,
        "train": len(split.train),
        "validation": len(split.validation) if split.validation else 0,
        "test": len(split.test),
        "classes": list(split.dataset.classes),
    }
    path = folder / "data.json"
    if path.exists():
        before: DataSet = checked(path, read_json(path), DataSet)
        if before.fingerprint != record["fingerprint"]:
            raise HarpError(f"the images of {split.dataset.name} are not those {folder} was begun with")
    write_json(path, record)
    write_atomic(folder / "recipe.yaml", write_recipe(work.recipe))
    if not (folder / "environment.json").exists():
        write_json(folder / "environment.json", work.environment())


def _clear(work: "Workspace") -> None:
    for stage in work.folders:
        for partial in work.run.at(stage).glob("**/.*.partial"):
            remove(partial)
        if work.run.done(stage) is not None:
            clear(work.run.at(stage))
            if stage != EVALUATION:  # which may go on where it was finished, when more is asked of it
                remove(work.run.at(stage) / BEGUN)
