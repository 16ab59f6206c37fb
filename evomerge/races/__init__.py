"""Family of races: when a candidate is not asked the rest of its items."""
