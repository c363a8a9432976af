"""Profile: the latest of what a person told us about when and how to be reached."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from schemas.events.body import Strict
from schemas.events.fields import Channels, Label, Locale, LocalHour, Pseudonym, PurposeId, Zone

TOPIC: Final = "ntf.profiles.v1"


class ProfileUpdated(Strict):
    """A person's whole profile; it replaces the one before, absent parts included.

    No journey and no notification: a profile belongs to a person, not to a message.
    Units: `preferred_hours` are local hours of `zone`; consent is per purpose, absent means no.
    """

    subject: Pseudonym
    zone: Zone
    tenant: Label | None = None
    preferred_hours: Annotated[tuple[LocalHour, ...], Field(max_length=24, fail_fast=True)] = ()
    channels: Channels = ()
    consent: Annotated[
        dict[PurposeId, bool],
        # pydantic states the pattern of the keys, but not that there are no others
        Field(max_length=64, json_schema_extra={"additionalProperties": False}),
    ] = Field(default_factory=dict)
    locale: Locale | None = None


MODELS: Final[dict[str, type[Strict]]] = {"ntf.profile.updated.v1": ProfileUpdated}
