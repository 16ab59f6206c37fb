"""Family of executors: where work runs."""
