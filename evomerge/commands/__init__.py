"""One file a command: `main(args) -> exit code`, reached by its name from evomerge.cli."""
