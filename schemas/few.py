"""Few or many: whether array arithmetic is worth its fixed cost."""

from __future__ import annotations

from collections.abc import Sized

MANY = 24
"""Values from which on arrays cost less than going one by one."""


def are_few(values: Sized) -> bool:
    """Tell whether to go one by one through these."""
    return len(values) < MANY
