"""Packages to and from the Hugging Face hub, each with a card written from what is on record."""

from harp.hub.card import About, card
from harp.hub.traffic import from_pretrained, push_to_hub, save_pretrained

__all__ = ["About", "card", "from_pretrained", "push_to_hub", "save_pretrained"]
