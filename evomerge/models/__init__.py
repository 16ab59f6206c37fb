"""Weights at rest: reading parents, checking them against each other, writing the merged model."""
