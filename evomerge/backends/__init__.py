"""Family of live models that take weights in place and answer requests."""
