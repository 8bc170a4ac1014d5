"""Accuracy under attack, example by example, in a record that survives being killed."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from harp.ambient import precise, usable
from harp.attacks import Attack, AttackWarning, Cascade, fits
from harp.attacks.losses import wrong
from harp.errors import HarpError
from harp.evaluation.answers import KEPT, Asker, answered
from harp.evaluation.expected import Expected, draws_of, single, votes, within
from harp.evaluation.gathered import Evaluation, gathered
from harp.evaluation.identity import asked_of
from harp.evaluation.inputs import check_eps, check_images, check_labels, mode_note
from harp.evaluation.passes import Passes, fingerprints
from harp.evaluation.record import Record
from harp.evaluation.steadiness import Untouched, accompanied
from harp.evaluation.verdicts import attacked
from harp.files import writes
from harp.models import Function, Logits, classes_of
from harp.modes import evaluating
from harp.randomness import Keyed, global_draws
from harp.ranks import ALONE, Ranks, joined
from harp.runs import Tree
from harp.threats import Threat
from harp.wrappers import unwrapped


class _Once(Protocol):
    def once(self) -> Iterator[tuple[Tensor, Tensor]]: ...


Batches = Iterable[tuple[Tensor, Tensor]] | _Once
"""A list of (x, y), or data with `once()`: x float [n, c, h, w] in the threat's box, y int64 [n], always the same."""


@precise()
def evaluate(
    model: nn.Module | Callable[[Tensor], object],
    batches: Batches,
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int = 0,
    *,
    folder: Path | None = None,
    tick: Callable[[str, int], None] = lambda measure, n: None,
) -> Evaluation:
    """Where `model`, a network or any callable that gives logits, is right: clean, and under each attack.

    With a `folder`, the record of every batch is kept there.
    Each attack is tried on what is right clean, or, in a `Cascade` (which `autoattack` gives), on what all attacks
    before it left; its flags then count those. An example's noise is named by (seed, "evaluate", attack, its place), so
    verdicts do not depend on how examples are batched beyond the rounding of batched arithmetic; what a network itself
    draws from torch's, numpy's or Python's global generator is named by the seed, the measure and the batch. Of an
    `Expected` an image counts as right where all its answers are. The model
    is in eval mode while it is measured. A finished batch of `folder` is not measured again; the same call after a kill
    ends with the same record. `tick` is called with the measure and each batch's size.

    Raises `HarpError` for an attack called "clean" or "worst", for an eps beyond the box, for images outside the
    threat's box or labels outside the logits, for images that are not the same in each pass, for a network that fails
    or changes its images, for an attack that fails or leaves the threat, and for a folder with the record of another
    model, data set, threat, attack, seed, version or code, or one that was changed since. Of the ranks that a command
    runs on each measures some of the batches, into one folder.
    """
    taken = {"clean", "worst"} & set(attacks)
    if taken:
        raise HarpError(f"an attack cannot be called {taken.pop()!r}: that measure is always taken")
    untouched = Untouched(model)
    model = as_network(model, batches)
    note = mode_note(model)
    asked, ranks = asked_of(model, attacks, threat, seed), ALONE if folder is None else joined()
    ranks.told(lambda: Record(folder, asked) and None)  # the first begins the folder, before others look into it
    record = Record(folder, asked)
    measured = _Measured(model, untouched, batches, threat, seed, record, tick, ranks)
    with evaluating(model):
        count = measured.clean(attacks)
        before = ["clean"]
        for name, attack in attacks.items():
            measured.under(name, attack, before)
            if isinstance(attacks, Cascade):
                before.append(name)
    ranks.wait()
    notes = [text for text in (note, _unknown(record, count)) if text]
    found = gathered(record, count, tuple(attacks), isinstance(attacks, Cascade))
    return replace(found, notes=(*notes, *found.notes))


@dataclass
class _Measured:
    """One network on the same batches, measure by measure, into the record."""

    model: nn.Module
    untouched: Untouched
    batches: Batches
    threat: Threat
    seed: int
    record: Record
    tick: Callable[[str, int], None]
    ranks: Ranks
    passes: Passes = field(default_factory=Passes)

    def clean(self, attacks: Mapping[str, Attack]) -> int:
        """How many batches there are, each now with its clean verdicts; what the `attacks` could not take raises."""
        for index, x, y, points in _placed(self.batches):
            check_eps(self.threat, x)
            if not index:
                with global_draws(x.device, self.seed, "accompanied"):
                    self.model = within(self.model, partial(accompanied, x=x))
                for attack in attacks.values():
                    fits(attack, x, self.threat)
            prints = fingerprints(x, y)
            self.passes.begin(prints)
            if self._is_own(index):
                self._judge(index, int(points[0]) if len(points) else 0, prints, x, y)
            self.tick("clean", len(x))
        if not self.passes:
            raise HarpError("there are no batches to evaluate on")
        if self.record.get("clean", len(self.passes)) is not None:
            raise HarpError(f"{self.record.folder} holds a record of more")
        return len(self.passes)

    def _is_own(self, index: int) -> bool:
        return index % self.ranks.size == self.ranks.rank

    def _put(self, measure: str, index: int, tree: Tree) -> None:
        with writes(True):
            self.record.put(measure, index, tree)

    def _judge(self, index: int, first: int, prints: Tensor, x: Tensor, y: Tensor) -> None:
        """The batch's clean verdicts are on record; one that was there before is compared with what is here now."""
        check_images(x, self.threat, first)
        answers = Asker(self.model, self.threat, self.seed)(x, index) if self.record.folder else {}
        if self.record.get("clean", index) is not None:
            self.record.check(index, prints, answers)
            return
        with global_draws(x.device, self.seed, "evaluate", "clean", index):
            logits = answered(single(self.model), x, first)
            check_labels(y, len(x), classes_of(logits, len(x)), first)
            right, counted = ~wrong(logits, y), Tree()
            if isinstance(self.model, Expected):
                counted = {"votes": votes(self.model, x, y)}
                right = counted["votes"] == self.model.draws
        self._put("clean", index, {**answers, **counted, "right": right, "labels": y, "images": prints})

    def under(self, name: str, attack: Attack, before: Sequence[str]) -> None:
        """The attack's verdicts on every batch are on record, tried where the network is right under all `before`."""
        count = 0
        for index, x, y, points in _placed(self.batches):
            self.passes.check(name, index, fingerprints(x, y))
            if self._is_own(index) and self.record.get(name, index) is None:
                alive = torch.stack([_right(self.record, other, index) for other in before]).all(0).to(x.device)
                noise = Keyed.of(points.to(x.device), self.seed, "evaluate", name)
                with global_draws(x.device, self.seed, "evaluate", name, index):
                    tree = self._attacked(name, attack, x, y, alive, noise)
                self._put(name, index, tree)
            self.tick(name, len(x))
            count = index + 1
        self.passes.end(name, count)

    def _attacked(self, name: str, attack: Attack, x: Tensor, y: Tensor, alive: Tensor, noise: Keyed) -> Tree:
        """Who of the batch is right under the attack, and, for those it broke, their places, images and distances."""
        places = alive.nonzero().squeeze(1)
        right, notes, adv = alive.clone(), [], x[:0]
        draws = draws_of(self.model)
        counted = torch.full_like(y, draws)
        if len(places):
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", AttackWarning)
                try:
                    drawn = noise.take(places)
                    held, adv, answers = attacked(
                        self.model, attack, x[places], y[places], self.threat, drawn, self.untouched
                    )
                except HarpError:
                    raise
                except Exception as error:
                    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                    raise HarpError(f"the attack {name} fails on a batch of {len(places)} images ({reason})") from error
            notes = [str(warning.message) for warning in heard if isinstance(warning.message, AttackWarning)]
            right[places], counted[places] = held, answers
            places, adv = places[~held], adv[~held]
        distance = self.threat.distance(adv, x[places])
        found: Tree = {"right": right, "places": places, "adv": adv, "distance": distance, "notes": notes}
        return {**found, "votes": counted} if draws > 1 else found


def as_network(model: nn.Module | Callable[[Tensor], object], batches: Batches) -> nn.Module:
    """`model` as a network, in the modes it came in, whose answers are tensors: unwrapped, and opened where it must."""
    if isinstance(model, Expected):
        return within(model, lambda network: as_network(network, batches))
    if not isinstance(model, nn.Module):
        return Function(model).eval()
    model = unwrapped(model)
    first = next(iter(once(batches)), None)
    if first is None:
        return model
    x, _ = first
    with evaluating(model), global_draws(x.device, 0, "as_network"):
        try:
            plain = isinstance(answered(model, x[:KEPT]), Tensor)
        except HarpError:
            return model  # what is wrong with it, or with the images, is told once they were looked at
    return model if plain else Logits(model).train(model.training)


def once(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Every batch once; raises `HarpError` for an iterator, which would be used up."""
    if isinstance(batches, Iterable):
        # Asked once: beginning anew costs a loader its workers, and one that shuffles a draw.
        found = iter(batches)
        if found is batches:
            raise HarpError("batches can be gone through only once; expected a list, or data with once()")
        return found
    return batches.once()


def _placed(batches: Batches) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    place = 0
    for index, (x, y) in enumerate(once(batches)):
        yield index, usable(x), usable(y), torch.arange(place, place + len(x))
        place += len(x)


def _unknown(record: Record, count: int) -> str | None:
    trees = (record.get("clean", index) or {} for index in range(count))
    if not any(tree.get("random", False) for tree in trees):
        return None
    return "the network answers one question in two ways: by its answers its record cannot be told from another's."


def _right(record: Record, measure: str, index: int) -> Tensor:
    tree = record.get(measure, index)
    assert tree is not None
    right: Tensor = tree["right"]
    return right
