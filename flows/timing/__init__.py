"""Delivery times: from requests to decisions, and from what came of them to better ones."""

from __future__ import annotations

from typing import Final

TIMING: Final = "timing"
"""The name of the flow that delivery times can be on their own."""

TIMING_STEP: Final = "decide_times"
"""A key of saved state: renaming it forgets all that was learned."""
