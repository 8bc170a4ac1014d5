"""A doubt: a sample of one class shows nothing of the others."""

from harp.evaluation.doubts import Found, Sample


def one_class(sample: Sample) -> Found:
    """All images that were examined have one label, so the number speaks of that class alone."""
    if (sample.y != sample.y[0]).any():
        return None
    return 1.0, f"All of the {len(sample.y)} images that were examined have the label {int(sample.y[0])}."
