import pytest

from harp.report.drawing import INK, log_axis, panels, scale_shares, style, svg, thinned


def test_long_records_are_thinned_to_their_ends() -> None:
    short = thinned(range(1000), most=4)
    assert short == [0, 333, 666, 999]
    assert thinned([1, 2, 3], most=3) == [1, 2, 3]


def test_text_follows_the_page_and_labels_are_escaped() -> None:
    with style():
        figure, (axes,) = panels(1, 1, 2)
        axes.set_title("<x> & $y$")
        text = svg(figure, "a < b", 'say "so"')
    assert INK not in text
    assert "currentColor" in text
    assert "&lt;x&gt; &amp; $y$" in text
    assert "<title>a &lt; b</title>" in text
    assert 'aria-label="say &#34;so&#34;"' in text
    assert text.startswith('<svg viewBox="0 0 518')


def test_a_log_axis_bears_zeros() -> None:
    with style():
        _, (axes,) = panels(1, 1, 2)
        log_axis(axes, [0.0, 0.1, 0.2])
        assert axes.get_ylim() == pytest.approx((0.05, 0.32))
        log_axis(axes, [0.0])
        assert axes.get_ylim() == pytest.approx((0.5, 1.6))


def test_shares_are_logarithmic_only_where_some_are_small_and_never_beyond_the_whole() -> None:
    with style():
        _, (axes,) = panels(1, 1, 2)
        assert scale_shares(axes, [0.01, 0.9]) == ", log scale"
        assert axes.get_ylim() == pytest.approx((0.005, 1.1))
        _, (axes,) = panels(1, 1, 2)
        assert scale_shares(axes, [0.0, 0.1, 1.0]) == ""
        assert axes.get_ylim() == pytest.approx((0, 1.02))
