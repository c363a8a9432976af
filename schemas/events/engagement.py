"""Engagement: what a person, or a machine in front of the person, did with a message."""

from __future__ import annotations

from typing import Final, Literal

from schemas.events.body import EventBody
from schemas.events.fields import Attempt, Channel, Label, ProviderId

TOPIC: Final = "ntf.engagement.v1"

ComplainedReason = Literal["spam", "not_requested", "abuse", "other"]
TokenInvalidatedReason = Literal[
    "app_uninstalled", "permission_revoked", "token_expired", "token_replaced"
]
UnsubscribedScope = Literal["campaign", "purpose", "channel", "all"]
PreferenceSetting = Literal["channels", "hours", "frequency", "purposes", "locale", "zone"]


class EngagementBody(EventBody):
    """One message on one channel; never an address, the vault holds contact to subject."""

    channel: Channel
    provider: Label
    attempt: Attempt | None = None
    message_id: ProviderId | None = None
    provider_event_id: ProviderId | None = None
    arm: Label | None = None


class Seen(EngagementBody):
    """The message was on screen."""


class Opened(EngagementBody):
    """The message was opened; machine opens (prefetch, scanners) are told apart."""

    machine: bool


class Read(EngagementBody):
    """The message was open long enough to be read."""


class Clicked(EngagementBody):
    """A link of the message was followed."""

    link_id: Label
    machine: bool = False


class CallToAction(EngagementBody):
    """An action of the message was taken, such as a button."""

    action: Label


class Interacted(EngagementBody):
    """The message was used in some other way, such as expanded or swiped."""

    action: Label | None = None


class Dismissed(EngagementBody):
    """The message was put away unread."""


class Archived(EngagementBody):
    """The message was put away after reading."""


class Replied(EngagementBody):
    """The person answered; the text stays with the channel."""


class Unsubscribed(EngagementBody):
    """The person wants less of this: how much less is the scope."""

    scope: UnsubscribedScope


class Complained(EngagementBody):
    """The person reported the message."""

    reason: ComplainedReason


class PreferenceChanged(EngagementBody):
    """The person changed a setting; the new value arrives as a profile."""

    setting: PreferenceSetting


class TokenInvalidated(EngagementBody):
    """The device can no longer be reached by this token."""

    reason: TokenInvalidatedReason


MODELS: Final[dict[str, type[EventBody]]] = {
    "ntf.engagement.seen.v1": Seen,
    "ntf.engagement.opened.v1": Opened,
    "ntf.engagement.read.v1": Read,
    "ntf.engagement.clicked.v1": Clicked,
    "ntf.engagement.cta.v1": CallToAction,
    "ntf.engagement.interacted.v1": Interacted,
    "ntf.engagement.dismissed.v1": Dismissed,
    "ntf.engagement.archived.v1": Archived,
    "ntf.engagement.replied.v1": Replied,
    "ntf.engagement.unsubscribed.v1": Unsubscribed,
    "ntf.engagement.complained.v1": Complained,
    "ntf.engagement.preference_changed.v1": PreferenceChanged,
    "ntf.engagement.token_invalidated.v1": TokenInvalidated,
}
