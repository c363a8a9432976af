"""An invented world that produces notification traffic, and the truth of what it sent.

The truth is worked out here by its own plain arithmetic and shares nothing with `flows.steps`,
so that a fault there cannot hide itself.
"""

from flows.simulate.plan import Shares, read_shares
from flows.simulate.publish import simulate
from flows.simulate.truth import Truth
from flows.simulate.world import World

__all__ = ["Shares", "Truth", "World", "read_shares", "simulate"]
