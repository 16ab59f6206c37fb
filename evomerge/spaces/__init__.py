"""Family of search spaces: genome <-> Recipe."""
