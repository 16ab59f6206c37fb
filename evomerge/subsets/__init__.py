"""Family of item subsets: which search items a batch runs."""
