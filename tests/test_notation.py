"""Lines as wide as a terminal."""

from harp.notation import fitted


def test_lines_are_broken_between_words_and_paths_stay_whole():
    text = "results: /a/very/long/path/that-nobody/may-break\n\nand the rest of it"
    assert fitted(text, 20) == "results:\n/a/very/long/path/that-nobody/may-break\n\nand the rest of it"
    assert fitted("  name  some words of it", 14, indent="        ") == "  name  some\n        words\n        of it"
    assert fitted("short", 5) == "short"
