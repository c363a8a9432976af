"""The field types that event bodies share, each with its bound.

Identifiers and labels carry lengths only: one pattern costs the hot path more than decoding the
whole rest of the body does (about 600 ns against 450 ns), and most events have five such fields.
Patterns guard the rare fields that later code parses: times, zones, locales, currencies, map keys.
A pattern is written `^...$` with explicit classes (no dot, no backslash-d), so that it means the
same in Rust (pydantic), Python (msgspec) and ECMAScript (the published contract).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

Identifier = Annotated[str, StringConstraints(min_length=8, max_length=64)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ProviderId = Annotated[str, StringConstraints(min_length=1, max_length=128)]

# The keyed pseudonym of a person, equal to the ticket's subject; the ticket checks its form.
Pseudonym = Annotated[str, StringConstraints(min_length=8, max_length=64)]

Instant = Annotated[
    str,
    StringConstraints(
        max_length=35,
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
        r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    ),
]
Zone = Annotated[
    str,
    StringConstraints(
        max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}$"
    ),
]
Locale = Annotated[
    str,
    StringConstraints(
        max_length=12, pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"
    ),
]
PurposeId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
Currency = Annotated[str, StringConstraints(max_length=3, pattern=r"^[A-Z]{3}$")]

# Fits Decimal(18, 4) in the store even for a currency without minor units.
AmountMinor = Annotated[int, Field(ge=0, le=99_999_999_999_999)]
Attempt = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[int, Field(ge=0, le=31_622_400)]
LocalHour = Annotated[int, Field(ge=0, le=23)]
Probability = Annotated[float, Field(gt=0, le=1)]
Score = Annotated[float, Field(ge=0, le=1)]

Channel = Literal["email", "sms", "push", "web_push", "in_app", "chat", "voice", "postal"]
Priority = Literal["low", "normal", "high", "critical"]

# Arrays stop at their first wrong entry: a megabyte of wrong ones cost ten seconds to list.
Channels = Annotated[tuple[Channel, ...], Field(max_length=8, fail_fast=True)]
SomeChannels = Annotated[tuple[Channel, ...], Field(min_length=1, max_length=8, fail_fast=True)]
