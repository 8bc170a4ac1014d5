"""What training minimises: generators of closures, one closure per optimiser step."""

from harp.objectives.adversarial import OBJECTIVES, PGDAT, Natural, Objective

__all__ = ["OBJECTIVES", "PGDAT", "Natural", "Objective"]
