"""Figures of docs/guarantees.md, measured anew: `python -m tests.measure NAME`."""
