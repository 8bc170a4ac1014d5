"""Small pruned networks that come with harp, each a package of some kilobytes and a card of what was measured of it."""

from harp.zoo.catalogue import FOLDER, PREFIX, Card, Entry, enter, find, in_words, names, repeats

__all__ = ["FOLDER", "PREFIX", "Card", "Entry", "enter", "find", "in_words", "names", "repeats"]
