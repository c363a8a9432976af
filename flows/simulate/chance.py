"""Chance that repeats: every draw of the world comes from a named stream of one seed."""

from __future__ import annotations

from random import Random


def dice(seed: int, stream: str) -> Random:
    """Random numbers for one part of the world; the parts do not disturb each other.

    >>> dice(7, "people").random() == dice(7, "people").random()
    True
    """
    return Random(f"{seed}/{stream}")  # noqa: S311 - a simulation has to repeat


def draw_delay(rng: Random, typical_ms: float) -> int:
    """How long something takes: often short, at times long. Units: milliseconds, at least 1."""
    return 1 + int(rng.expovariate(1.0) * typical_ms)


def draw_latency(rng: Random) -> int:
    """How long a message is on its way to the broker.

    Units: milliseconds; half within 5, the slowest tenth up to some seconds, none above 30 s.
    """
    luck = rng.random()
    if luck < 0.55:  # noqa: PLR2004 - shares of the three kinds of path
        return int(luck * 10)
    typical_ms = 60 if luck < 0.9 else 1_500  # noqa: PLR2004 - as above
    return min(int(rng.expovariate(1.0) * typical_ms), 30_000)


def draw_id(rng: Random, prefix: str) -> str:
    """A new name: a prefix and 16 hexadecimal digits."""
    return f"{prefix}{rng.getrandbits(64):016x}"
