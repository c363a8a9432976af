"""Invented people: who they are, where their clock stands, what they agreed to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgspec

from flows.simulate.rhythm import PEAKS, ZONES

CHANNELS: Final = ("email", "push", "sms", "in_app", "web_push", "chat")
_REACH: Final = (0.92, 0.71, 0.48, 0.6, 0.3, 0.22)
_LOCALES: Final = ("en-GB", "de-DE", "pt-BR", "es-CL", "ja-JP", "hi-IN", "en-US", "fr-FR")


class Person(msgspec.Struct, frozen=True, eq=False):
    """One invented person.

    Shapes: `subject` is `usr_` and 16 hexadecimal digits; `known` tells whether a profile was
    published; `keenness` scales all answers, 1 on average.
    """

    subject: str
    key: bytes
    zone: str
    chronotype: str
    keenness: float
    channels: tuple[str, ...]
    granted: frozenset[str]
    locale: str
    known: bool

    def profile(self, tenant: str, purposes: Sequence[str]) -> dict[str, Any]:
        """The body of this person's profile; `purposes` are those that can be consented to."""
        peaks = PEAKS[self.chronotype]
        return {
            "subject": self.subject,
            "zone": self.zone,
            "tenant": tenant,
            "preferred_hours": [int(peak) % 24 for peak in peaks] if self.keenness > 1 else [],
            "channels": list(self.channels),
            "consent": {purpose: purpose in self.granted for purpose in purposes},
            "locale": self.locale,
        }


def pseudonym(seed: int, number: int) -> str:
    """The keyed pseudonym of a person: without the key it leads nowhere.

    >>> pseudonym(7, 0) == pseudonym(7, 0), pseudonym(7, 0) == pseudonym(8, 0)
    (True, False)
    """
    key = hashlib.sha256(f"airside world {seed}".encode()).digest()
    digest = hmac.digest(key, f"person {number}".encode(), "sha256")
    return f"usr_{digest[:8].hex()}"


def make_people(
    rng: Random, *, seed: int, count: int, purposes: Sequence[str], first: int = 0, known: bool
) -> list[Person]:
    """Draw people; each purpose that can be consented to is granted by about two of three."""
    zones = [zone for zone, _ in ZONES]
    weights = [weight for _, weight in ZONES]
    people = []
    for number in range(first, first + count):
        subject = pseudonym(seed, number)
        reach = [name for name, share in zip(CHANNELS, _REACH, strict=True) if rng.random() < share]
        people.append(
            Person(
                subject=subject,
                key=subject.encode(),
                zone=rng.choices(zones, weights)[0],
                chronotype=rng.choices(tuple(PEAKS), (3, 5, 2))[0],
                keenness=rng.triangular(0.3, 1.7, 1.0),
                channels=tuple(reach) or ("email",),
                granted=frozenset(purpose for purpose in purposes if rng.random() < 0.65),  # noqa: PLR2004 - as promised
                locale=rng.choice(_LOCALES),
                known=known,
            )
        )
    return people
