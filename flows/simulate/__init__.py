"""An invented world that produces notification traffic, and the truth of what it sent.

The truth is worked out here by its own plain arithmetic and shares nothing with `flows.steps`,
so that a fault there cannot hide itself.
"""
