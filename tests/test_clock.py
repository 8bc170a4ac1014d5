import pytest

from harp.clock import Step


@pytest.mark.parametrize(("text", "steps"), [("1ep", 391), ("20ep", 7820), ("500it", 500), ("1it", 1), (" 2ep ", 782)])
def test_a_span_in_steps(text, steps):
    assert Step.parse(text).steps(per_epoch=391) == steps


@pytest.mark.parametrize("text", ["20ep", "500it"])
def test_a_span_prints_as_it_was_written(text):
    assert str(Step.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "20", "ep", "0ep", "-1ep", "1.5ep", "1 ep", "20epochs", "1EP", "1ep 2it", "9" * 5000 + "ep"]
)
def test_what_is_no_span_is_refused(text):
    with pytest.raises(ValueError, match=r"expected a span such as '1ep' \(epochs\) or '500it' \(steps\)"):
        Step.parse(text)
