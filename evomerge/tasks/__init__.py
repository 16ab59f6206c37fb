"""Family of tasks: what is asked and how an answer is scored, item by item."""
