"""Checks that expose false robustness: what makes an attack fail where the network does not hold.

After Carlini et al., "On evaluating adversarial robustness" (2019); Athalye, Carlini & Wagner, "Obfuscated gradients
give a false sense of security" (ICML 2018); Pintor et al., "Indicators of attack failure" (NeurIPS 2022); Croce et
al., "Evaluating the adversarial robustness of adaptive test-time defenses" (ICML 2022).
"""

from harp.evaluation.doubts import gradients, outputs, searches, steady  # noqa: F401  each registers its checks
from harp.evaluation.doubts.base import DOUBTS, Doubt, Found
from harp.evaluation.doubts.examining import Evidence, examine
from harp.evaluation.doubts.sample import Sample
from harp.evaluation.doubts.transfer import Transferred

__all__ = ["DOUBTS", "Doubt", "Evidence", "Found", "Sample", "Transferred", "examine"]
