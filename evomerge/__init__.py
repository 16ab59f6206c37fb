"""evomerge: search for good merges of language models."""
