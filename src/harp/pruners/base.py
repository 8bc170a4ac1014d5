"""Pull and push: how pruning acts on a model that stays an ordinary dense module.

The model's own parameters hold the effective weights. After each backward pass, `pull` carries their gradient to
whatever is really trained; after each optimizer step, `push` writes new effective weights into the model:

    loss.backward();  pruner.pull();  optimizer.step();  pruner.push(Moment(step, optimizer))

What reads gradients (clipping, logging) comes after `pull`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, float32, nn, zeros
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from harp.config import make_settings
from harp.errors import HarpError
from harp.pruners.attached import Attached
from harp.pruners.method import Course, Moment, Options, Role, Scoring
from harp.registry import Registry
from harp.runs import Tree
from harp.sparsity import Budget, Masks, Sites, Units, checked


class Method(Protocol):
    """What is registered as a method: a class of pruners, made from units, a budget, its options and its course."""

    @property
    def takes(self) -> type[Options]: ...

    def begins_with(self, options: Any) -> Literal["dense", "untrained"]: ...

    def steps(self, options: Any, course: Course) -> int: ...

    def tuned(self, options: Any) -> "Callable[[Sites, Masks], Pruner] | None": ...

    def __call__(self, what: Sites | Units, budget: Budget, *, options: Any, course: Course | None) -> "Pruner": ...


METHODS: Registry[Method] = Registry("pruning method", "methods")


def options_of(method: str, values: Mapping[str, Any]) -> Options:
    """The options of `method`; raises `HarpError` for one that it does not know, with the nearest it does."""
    return make_settings(METHODS[method].takes, values, "prune.options")


def make_pruner(method: str, what: Sites | Units, budget: Budget, options: Options, course: Course) -> "Pruner":
    """A pruner of `method`, given options and course as far as it takes them; raises `HarpError` for lost options."""
    maker, given = METHODS[method], dict[str, Any](options=options, course=course)
    parameters = signature(maker).parameters
    if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
        given = {name: value for name, value in given.items() if name in parameters}
    if "options" not in given and type(options).model_fields:
        raise HarpError(f"pruning method {method!r} has options, and its __init__ takes no options=")
    return maker(what, budget, **given)


def begins_untrained(method: str, values: Mapping[str, Any]) -> bool:
    """Whether `method` under these options trains from scratch, so that there is no dense network to begin from."""
    return METHODS[method].begins_with(options_of(method, values)) == "untrained"


class SearchWarning(UserWarning):
    """Why what a search for masks ended with may be worse than it could be."""


class Pruner:
    """Does nothing, which is how a dense model trains; every method overrides what it needs.

    A copy or a pickle is one of the network, too (`copy.deepcopy((model, pruner))`); made alone it has sites that are
    no network's, and raises `HarpError` when it is used. Raises `HarpError` for sites that are none.
    """

    takes: ClassVar[type[Options]] = Options
    """The model of the method's settings; `harp list methods NAME` prints it."""

    begins: ClassVar[Literal["dense", "untrained"]] = "dense"
    """The weights that the method starts from: those of the dense trained network, or those it is built with."""

    companions: Literal["all", "norms", "none"] = "all"
    """Which parameters outside the sites train beside `trainables`: all, those of normalisation layers, or none."""

    hears_training: ClassVar[bool] = False
    """Whether `hear` is also told "train_clean" and "train_robust", measured on as many images of training."""

    def __init__(self, sites: Sites = ()):
        self.sites = checked(sites)

    @property
    def acts(self) -> bool:
        """Whether it changes weights or gradients of its sites; one that does not may be attached beside others."""
        return type(self) is not Pruner

    @property
    def ended(self) -> bool:
        """Whether `settle` has ended the search, so that another pruner may have the sites."""
        return False

    @classmethod
    def begins_with(cls, options: Options) -> Literal["dense", "untrained"]:
        """The weights that the method starts from under these `options`: `begins`, for most."""
        return cls.begins

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        """How many of the stage's steps the method has a use for; 0 where it needs no training."""
        return course.steps or 0

    @classmethod
    def tuned(cls, options: Options) -> "Callable[[Sites, Masks], Pruner] | None":
        """What trains the weights that this method left, made of sites and masks; None: `Masked`, for most."""
        return None

    def check_passes(self, parts: int, recompute: bool) -> None:
        """Raises `HarpError` where the method cannot do with batches that are worked through in so many parts.

        Or with a network of which pieces are called once more in the backward pass, where that is to `recompute` them.
        """

    def trainables(self) -> dict[str, Role]:
        """What the optimizer trains in place of the sites, by role: weights, scores, rates."""
        return {"weights": Role([site.param for site in self.sites])}

    def prepare(self, scoring: Scoring) -> None:
        """A look at the training images before the first step of a stage; not again when it is resumed."""

    def hear(self, measures: Mapping[str, float]) -> None:
        """What was just measured on held-out images: accuracies "clean" and "robust", before the next step.

        Nothing is measured where a stage selects its last state.
        """

    @property
    def done(self) -> bool:
        """Whether the method wants no further step, so that its stage ends early."""
        return False

    def penalty(self) -> Tensor:
        """A scalar added to the loss."""
        return zeros((), dtype=float32, device="cpu")

    def pull(self) -> None:
        """Turns the gradients at the effective weights into gradients of the trainables; after backward."""

    @contextmanager
    def around(self, evaluate: Callable[[], Tensor]) -> Iterator[None]:
        """Around one step's evaluation, backward pass and `pull`.

        For methods that take the gradient elsewhere, such as at moved scores; afterwards all is as before. `evaluate`
        gives the batch's loss beforehand, with the same dropout, and leaves running statistics and random numbers
        alone.
        """
        yield

    def push(self, moment: Moment) -> None:
        """Writes the effective weights into the model; after each optimizer step, and once before the first.

        A resumed stage begins with the moment of its checkpoint a second time, which must change nothing.
        Not to be called inside an autocast region, which caches cast weights and would go on using the old ones.
        Raises `HarpError` where the sites are no part of the network any more, or hold what this would throw away.
        """

    def hooks(self) -> list[RemovableHandle]:
        """Hooks on the sites by which what reads `.grad` before `pull` sees what `pull` will leave; for `attach`."""
        return []

    def kept(self) -> dict[nn.Parameter, Tensor]:
        """Which entries of each site the network has now, bool; a site left out has them all."""
        return {}

    def attach(self, optimizer: Optimizer, start: int = 0) -> Attached:
        """Pull and push, and the penalty, around every `optimizer.step()` of a loop that stays as it is.

        Bit for bit the explicit loop; a context manager, or `detach()` ends it, or the end of the optimizer. Pushes
        once at once; `start` is the number of steps done before. At each step, in this order: the penalty's gradient
        is added, `pull`, the step, `push`, and gradients of sites and trainables are None, whichever of the model and
        the optimizer the loop zeroes. So of several backward passes before a step all count and the penalty counts
        once. bfloat16 autocast is as in any loop.

        What reads gradients between backward and step (clipping, logging, SAM): under `Masked` those of pruned weights
        are zero as soon as they exist, so a norm is that of the weights that are left. During a search the model's
        gradients are those at the effective weights, pruned ones included, since these are what scores and rates learn
        from: clipping the model's gradients scales all that is pulled, but not the penalty. Scores and rates have no
        gradient before the step, so clipping the optimizer's own parameters (Lightning's `gradient_clip_val`) reaches
        the normalisation layers only.

        Raises `HarpError` for an optimizer without the trainables, or with sites that are computed from them
        (`harp.sgd` makes the right one), and for sites of a pruner that is attached already; at the step for gradients
        that are not finite, before a weight is touched, for torch's GradScaler (float16), for a step inside autocast,
        and for a closure that is called twice (LBFGS). Move the model to its device before the pruner is made.
        """
        return Attached(self, optimizer, start)

    def settle(self) -> Masks:
        """The masks that meet the budget exactly; the model is the network they leave.

        Ends the stage: train on with `Masked`. What `notes` has to say is issued as `SearchWarning`. Raises `HarpError`
        for a pruner that has no masks.
        """
        raise HarpError(f"{type(self).__name__} prunes nothing, so it has no masks")

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within it the model is the network that `settle` would give; afterwards it is as before."""
        yield

    def notes(self) -> list[str]:
        """What a reader of the results should know of where the search stands."""
        return []

    def collapsed(self) -> list[str]:
        """Those of the `notes` that are no better in the middle of a search than at its end."""
        return []

    def record(self, moment: Moment) -> dict[str, Any]:
        """JSON values worth a line in the metrics."""
        return {}

    def state_dict(self) -> Tree:
        """All that `load_state_dict` needs to go on bit for bit: tensors and JSON values."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Takes up the state that `state_dict` gave."""

    def check_places(self) -> None:
        """Raises `HarpError` where a site is no part of a network (any more)."""
        for site in self.sites:
            if site.place is not None and not site.place.holds(site.param):
                raise HarpError(
                    f"{site.name} of this {type(self).__name__} is no network's parameter any more: the pruner was "
                    "copied or unpickled without its network, or the network got another parameter in its place "
                    "(load_state_dict(assign=True), a move to meta); make a new pruner, which can take up this one's "
                    "state_dict()"
                )


def like(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`others`, a state's tensors by name; raises `HarpError` where they are not those of `own` in name and shape."""
    for name, tensor in own.items():
        if name not in others or others[name].shape != tensor.shape:
            raise HarpError(f"the state is that of another network: it has no {name} of shape {list(tensor.shape)}")
    return others
