"""Many runs by one line: the same search over every combination of swept settings."""
