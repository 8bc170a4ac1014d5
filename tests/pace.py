"""Which of many alike cases run on every push, and which in `make test-all` only."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def quick(some: Collection[object], cases: Iterable[Any]) -> list[Any]:
    """All `cases` as parameters, those that are not among `some` marked slow."""
    return [case if case in some else pytest.param(case, marks=pytest.mark.slow) for case in cases]
