"""Family of objectives: estimates per task -> fitness."""
