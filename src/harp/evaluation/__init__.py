"""How often a model is right, with and without an attacker, how sure that is, and what speaks against it."""

from harp.evaluation.balanced import balanced_accuracy
from harp.evaluation.curve import Radius, SecurityCurve, radius_at, security_curve
from harp.evaluation.doubts import DOUBTS, Doubt, Evidence, Transferred, examine
from harp.evaluation.evaluate import as_network, evaluate
from harp.evaluation.expected import Expected
from harp.evaluation.gathered import Evaluation, Flags, flags_of, summary
from harp.evaluation.identity import identity_of
from harp.evaluation.outcome import Outcome
from harp.evaluation.paired import Comparison, mcnemar
from harp.evaluation.record import IDENTITY, RESULT, Record
from harp.evaluation.rejudge import Rejudged, rejudge
from harp.evaluation.saved import save_images
from harp.evaluation.statistics import Estimate, Spread, spread, wilson
from harp.evaluation.steadiness import Untouched
from harp.evaluation.verdicts import correct

__all__ = [
    "DOUBTS",
    "IDENTITY",
    "RESULT",
    "Comparison",
    "Doubt",
    "Estimate",
    "Evaluation",
    "Evidence",
    "Expected",
    "Flags",
    "Outcome",
    "Radius",
    "Record",
    "Rejudged",
    "SecurityCurve",
    "Spread",
    "Transferred",
    "Untouched",
    "as_network",
    "balanced_accuracy",
    "correct",
    "evaluate",
    "examine",
    "flags_of",
    "identity_of",
    "mcnemar",
    "radius_at",
    "rejudge",
    "save_images",
    "security_curve",
    "spread",
    "summary",
    "wilson",
]
