"""Recipes in mergekit's words: its YAML read as a Recipe, and a Recipe written as its YAML (mergekit 0.1.5)."""

from evomerge.mergekit_io.document import is_mergekit
from evomerge.mergekit_io.read import notes, read
from evomerge.mergekit_io.write import to_mergekit

__all__ = ["is_mergekit", "notes", "read", "to_mergekit"]
