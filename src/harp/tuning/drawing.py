"""Settings drawn from a space by optuna, each a function of the seed, its number and what was measured before."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harp.extras import need
from harp.randomness import seed_of
from harp.tuning.space import Range, Space, Values

SEEDS = 2**32  # numpy's

Told = Sequence[tuple[Mapping[str, Any], float]]
"""Settings that were tried, and what they came to."""


def optuna() -> Any:
    """The library; raises `HarpError` where it is not installed."""
    return need("optuna", "tune", "harp tune")


def draw(space: Space, numbers: range, told: Told | None, seed: int, row: str, startup: int) -> list[dict[str, Any]]:
    """The settings of the trials of these `numbers`.

    At random where `told` is None, each by itself, so that more trials later change none of these; else by a
    tree-structured Parzen estimator of what was told, once that is `startup` trials.
    """
    library = optuna()
    among = {name: _distribution(library, values) for name, values in space.items()}
    with _quiet(library):
        if told is None:
            return [_study(library, library.samplers.RandomSampler, seed, row, n).ask(among).params for n in numbers]
        more = {"n_startup_trials": startup, "constant_liar": True}
        study = _study(library, library.samplers.TPESampler, seed, row, numbers.start, **more)
        for settings, value in told:
            study.add_trial(library.trial.create_trial(params=dict(settings), distributions=among, value=value))
        return [study.ask(among).params for _ in numbers]


def _study(library: Any, sampler: Any, seed: int, row: str, number: int, **more: Any) -> Any:
    drawn = sampler(seed=seed_of(seed, "tune", row, number) % SEEDS, **more)
    return library.create_study(direction="maximize", sampler=drawn)


def _distribution(library: Any, values: Values) -> Any:
    kinds = library.distributions
    if not isinstance(values, Range):
        return kinds.CategoricalDistribution(values)
    kind = kinds.IntDistribution if values.whole else kinds.FloatDistribution
    return kind(values.low, values.high, log=values.log)


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Nothing is said of each study and trial."""
    before = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        yield
    finally:
        library.logging.set_verbosity(before)
