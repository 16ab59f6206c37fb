"""Family of optimizers: ask and tell over genomes."""
