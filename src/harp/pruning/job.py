"""The two trainings of one call and its two evaluations, each with a file that says that it is done."""

import warnings
from typing import Any

from rich.console import Console
from torch import nn

from harp.copies import copied
from harp.errors import HarpError
from harp.evaluation import Outcome
from harp.export import timed
from harp.networks.assess import Asked, assess
from harp.pipeline.display import Display
from harp.pruners import METHODS, Course, Masked, Pruner, SearchWarning, make_pruner, options_of
from harp.pruning.found import Pruned
from harp.pruning.images import look
from harp.pruning.training import Training
from harp.runs import digest, load_tree, read_json, save_tree, write_json
from harp.sparsity import Budget, ChannelUnits, Masks, find_sites, find_units, resize
from harp.stages.settle import shrunk
from harp.stages.unused import unused_by_method, unused_by_objective
from harp.training import clear, steps_per_epoch

ASKED = "asked.json"
SEARCH, FINETUNING = "1-prune", "2-finetune"


def display_of(progress: bool) -> Display:
    """Bars where there can be some and they are wanted; else silence."""
    display = Display()
    return display if progress and display.bars else Display(Console(quiet=True))


class Job(Training):
    """One call, carried out step by step.

    Raises `HarpError` where the folder holds what another call left.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = {"network": digest(self.dense.state_dict()), "recipe": self.recipe.model_dump(mode="json")}
        path = self.folder / ASKED
        if path.exists() and read_json(path, dict[str, Any]) != asked:
            raise HarpError(f"{self.folder} was begun with another network or other settings; choose an empty folder")
        if not path.exists():
            write_json(path, asked)

    def begun(self) -> list[str]:
        """What speaks against the network that is given; looked into once."""
        path = self.folder / "start.json"
        if not path.exists():
            found = look(self.dense, self.data, self.attack, self.threat, self.classes, self.recipe.seed)
            write_json(path, {"notes": found})
        notes: list[str] = read_json(path, dict[str, list[str]])["notes"]
        return notes

    def carried_out(self) -> Pruned:
        """Everything that is not done yet, and what came of it all."""
        channels = self.recipe.prune.granularity == "channels"
        model, masks, searched = self._pruned()
        tuned = self._finetuned(model, masks, channels)
        before = self._assessed(self.dense, "before", ())
        after = self._assessed(model, "fine-tuned", (self.dense,))
        doubts = [f"{doubt.name}: {doubt.sentence}" for doubt in after.doubts]
        whole = find_units(self.dense, self.first[:1], sites=find_sites(self.dense))
        left = find_units(model, self.first[:1]) if channels else whole
        kept = left.sizes if channels else [masks.counts[name] for name in whole.names]
        return Pruned(
            model,
            None if channels else masks,
            before,
            after,
            self.threat,
            kept=sum(kept),
            total=sum(whole.sizes),
            macs=round(left.cost("macs")(kept)),
            total_macs=round(whole.cost("macs")(whole.sizes)),
            notes=tuple(dict.fromkeys([*self.begun(), *searched, *tuned, *doubts, *after.evaluation.notes])),
        )

    def _pruned(self) -> tuple[nn.Module, Masks, list[str]]:
        """The settled network, its masks over weights (or channels that stay), and what the search has to say."""
        settings, model, path = self.recipe.prune, copied(self.dense), self.folder / SEARCH / "pruned.safetensors"
        channels = settings.granularity == "channels"
        if not path.exists():
            units = find_units(model, self.first[:1], settings.granularity)
            objective = self.objective(settings)
            per_epoch = steps_per_epoch(self.data, objective)
            options = options_of(settings.method, settings.options)
            course = Course(per_epoch, settings.epochs * per_epoch, self.recipe.seed)
            budget = timed(units, model, self.first[:1], Budget(settings.keep, settings.measure, settings.floor))
            pruner = make_pruner(settings.method, units, budget, options, course)
            self.train(SEARCH, settings, model, pruner, objective, METHODS[settings.method].steps(options, course))
            notes = [*unused_by_method(settings), *pruner.notes(), *objective.notes()]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SearchWarning)  # the notes say it
                masks = pruner.settle()
            small = shrunk(model, units, masks, self.first[:64]) if isinstance(units, ChannelUnits) else model
            left = dict(masks if channels else units.by_site(masks))
            save_tree(path, {"model": dict(small.state_dict()), "masks": left, "notes": notes})
            clear(path.parent)
        state = load_tree(path)
        if channels:
            model = copied(self.dense)
            resize(model, {name: value.shape for name, value in state["model"].items()})
        model.load_state_dict(state["model"])
        return model, Masks(state["masks"]), state["notes"]

    def _finetuned(self, model: nn.Module, masks: Masks, channels: bool) -> list[str]:
        """What fine-tuning has to say; the model is trained by then, and in eval mode."""
        settings, path = self.recipe.finetune, self.folder / FINETUNING / "finetuned.safetensors"
        if not path.exists():
            objective = self.objective(settings)
            sites = find_sites(model)
            cut = self.recipe.prune
            under = METHODS[cut.method].tuned(options_of(cut.method, cut.options)) or Masked
            # Channels are gone by now: what is left trains as any dense network does.
            pruner = Pruner(sites) if channels else under(sites, masks)
            until = settings.epochs * steps_per_epoch(self.data, objective)
            self.train(FINETUNING, settings, model, pruner, objective, until)
            said = [*unused_by_objective("finetune", settings), *objective.notes()]
            save_tree(path, {"model": dict(model.state_dict()), "notes": said})
            clear(path.parent)
        state = load_tree(path)
        model.load_state_dict(state["model"])
        model.eval()
        notes: list[str] = state["notes"]
        return notes

    def _assessed(self, model: nn.Module, name: str, references: tuple[nn.Module, ...]) -> Outcome:
        folder, recipe = self.folder / "evaluation" / name, self.recipe
        asked = Asked(self.threat, recipe.evaluation, recipe.seed, self.display, name, folder, references=references)
        return assess(model, self.test, asked)
