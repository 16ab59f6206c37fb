"""Kernels run over real tensors: where their entries come from, in which pieces, compiled or not."""
