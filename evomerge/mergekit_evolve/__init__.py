"""A file of mergekit-evolve (mergekit 0.1.5) as settings of a search, and what becomes of that tool's defects."""

from evomerge.mergekit_evolve.settings import settings_of

__all__ = ["settings_of"]
