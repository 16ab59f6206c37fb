"""What a run found, read from its journal alone."""
