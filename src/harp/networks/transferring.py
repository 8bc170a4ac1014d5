"""Other networks for an evaluation's images, to make adversarial ones against."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from harp.config import make_recipe
from harp.errors import HarpError
from harp.evaluation import as_network
from harp.export import is_package
from harp.networks.named import find_network, loaded, untrained
from harp.networks.trust import check_named
from harp.pipeline import Workspace


def others_for(work: Workspace, targets: Collection[str], flag: str | None) -> dict[str, nn.Module]:
    """The networks that `targets` name, by a word for each, on the device of `work` and for its images.

    `flag` is as for `check_named`. Raises `HarpError` for one that has no weights, no gradients or no settings that say
    whose weights it has, that is not for these images and classes, and for two of one word.
    """
    found: dict[str, nn.Module] = {}
    for target in targets:
        word, other = _found(work, target, flag)
        if word in found:
            raise HarpError(f"--transfer: two networks are called {word}; expected each once")
        found[word] = other
    return found


def _found(work: Workspace, target: str, flag: str | None) -> tuple[str, nn.Module]:
    network = find_network(target)
    if network.card is None and network.weights is not None and is_package(Path(network.weights)):
        raise HarpError(f"--transfer {target}: a package has no gradients to make images by; name the run it is of")
    if not network.settings.get("model", {}).get("name"):
        raise HarpError(f"--transfer {target}: it lies in no run that says whose weights it holds; expected a run")
    mine = work.recipe.model_dump(mode="json", include={"seed", "device", "threads", "data", "threat", "evaluation"})
    recipe = make_recipe({**network.settings, **mine})
    check_named(recipe, network.told_by, mine, flag)
    there = Workspace(recipe, work.run.folder, work.display)
    there.split = work.split  # the same images, not read a second time
    if network.weights is None and untrained(there):
        raise HarpError(f"--transfer {target}: it comes without weights, and its seed would draw them; expected a run")
    batches = there.in_order(there.split.test, recipe.evaluation.batch_size)
    return network.label, as_network(loaded(there, network.weights, gradients=network.card is not None), batches)
