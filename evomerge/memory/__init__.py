"""The memory plan of a search: what it needs, where its parents lie, and what to change if it does not fit."""
