"""Another network's verdicts on the images of a record: those that were right, and those that broke the first one."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.attacks.losses import wrong
from harp.errors import HarpError
from harp.evaluation.evaluate import Batches, once
from harp.evaluation.gathered import Flags
from harp.evaluation.passes import fingerprints
from harp.evaluation.record import Record
from harp.modes import evaluating
from harp.runs import Tree


@dataclass(frozen=True)
class Rejudged:
    """The other network's flags, as `Evaluation.flags` are, and how its verdicts compare point by point.

    `compared` counts the clean images and every adversarial one on record; `different` those of which one network is
    right and the other wrong.
    """

    flags: Flags
    compared: int
    different: int


@precise()
def rejudge(model: nn.Module, batches: Batches, folder: Path) -> Rejudged:
    """What `model` makes of the images in the record of another network's evaluation.

    `batches` are those that were evaluated. A record holds an adversarial image for each success of an attack; a point
    that held counts as right where its clean image is. This tells whether two networks are one, or what rounding costs;
    it attacks nothing. Raises `HarpError` where there is no record, an unfinished one, or one of other images.
    """
    record = Record(folder, None)
    attacks, cascade = list(record.asked["attacks"]), record.asked["cascade"]
    parts, compared, different = [], 0, 0
    with evaluating(model), torch.no_grad():
        for index, (x, y) in enumerate(once(batches)):
            trees = {name: record.get(name, index) or {} for name in ("clean", *attacks)}
            if not all(trees.values()) or not torch.equal(trees["clean"]["images"], fingerprints(x, y)):
                raise HarpError(f"{folder} holds no finished record of these images")
            verdicts = {"clean": ~wrong(model(x), y).cpu()}
            verdicts |= {name: _held(model, trees[name], y) for name in attacks}
            parts.append(_flags(verdicts, trees, cascade))
            compared += sum(map(len, verdicts.values()))
            different += int((verdicts["clean"] != trees["clean"]["right"].cpu()).sum())
            different += sum(int(verdicts[name].sum()) for name in attacks)
    flags = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Rejudged({**flags, "worst": torch.stack(list(flags.values())).all(0)}, compared, different)


def _held(model: nn.Module, tree: Tree, y: Tensor) -> Tensor:
    """Which of the adversarial images the model gets right, bool [k]; the one they were made for got none right."""
    adv = tree["adv"].to(y.device)
    return ~wrong(model(adv), y[tree["places"].to(y.device)]).cpu() if len(adv) else torch.zeros(0, dtype=torch.bool)


def _flags(verdicts: dict[str, Tensor], trees: dict[str, Tree], cascade: bool) -> dict[str, Tensor]:
    flags = {"clean": verdicts["clean"]}
    for name in list(verdicts)[1:]:
        before = list(flags.values())[-1] if cascade else verdicts["clean"]
        places = trees[name]["places"].cpu()
        flags[name] = before.index_put((places,), before[places] & verdicts[name])
    return flags
