"""Steps of engagement and outcome: what people do with a message, and what comes of it."""

from __future__ import annotations

from typing import Any

from flows.simulate.chance import draw_id
from flows.simulate.course import Course, Journey
from flows.simulate.events import Event


def _react(
    course: Course, journey: Journey, word: str, at_ms: int, cause: str, **fields: Any
) -> Event:
    arm = {"arm": journey.arm} if journey.arm else {}
    return course.tell(
        journey,
        f"ntf.engagement.{word}.v1",
        at_ms,
        cause,
        channel=journey.channel,
        provider=journey.provider,
        message_id=journey.message_id,
        **arm,
        **fields,
    )


def _result(
    course: Course, journey: Journey, word: str, at_ms: int, cause: str, **fields: Any
) -> Event:
    arm = {"arm": journey.arm} if journey.arm else {}
    kind = f"ntf.outcome.{word}.v1"
    return course.tell(journey, kind, at_ms, cause, channel=journey.channel, **arm, **fields)


def opened_by_machine(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A scanner opens the message, no person does."""
    return _react(course, journey, "opened", at_ms, cause, machine=True)


def seen(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is on screen: opened, put away, or left."""
    event = _react(course, journey, "seen", at_ms, cause)
    luck = course.rng.random()
    if luck < 0.35 + 0.4 * min(course.readiness(journey, at_ms), 1.0):
        course.soon(opened, journey, event, 9_000)
    elif luck > 0.93:  # noqa: PLR2004 - a few put it away
        course.soon(dismissed, journey, event, 5_000)
    return event


def dismissed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is put away unread; now and then it was one too many."""
    event = _react(course, journey, "dismissed", at_ms, cause)
    luck = course.rng.random()
    if luck < 0.15:  # noqa: PLR2004 - some want less
        course.soon(unsubscribed, journey, event, 20_000)
    elif luck < 0.2:  # noqa: PLR2004 - few report it
        course.soon(complained, journey, event, 30_000)
    return event


def unsubscribed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person wants less of this."""
    scope = course.rng.choice(("campaign", "purpose", "channel", "all"))
    return _react(course, journey, "unsubscribed", at_ms, cause, scope=scope)


def complained(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person reports the message."""
    reason = course.rng.choice(("spam", "not_requested", "other"))
    return _react(course, journey, "complained", at_ms, cause, reason=reason)


def opened(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person opens the message."""
    event = _react(course, journey, "opened", at_ms, cause, machine=False)
    luck = course.rng.random()
    if luck < 0.5:  # noqa: PLR2004 - half go on
        course.soon(clicked, journey, event, 15_000)
    elif luck < 0.75:  # noqa: PLR2004 - a quarter only reads
        course.soon(read, journey, event, 25_000)
    return event


def read(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message was open long enough to be read."""
    event = _react(course, journey, "read", at_ms, cause)
    if course.rng.random() < 0.2:  # noqa: PLR2004 - the tidy ones
        course.soon(archived, journey, event, 10_000)
    return event


def archived(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is put away after reading."""
    return _react(course, journey, "archived", at_ms, cause)


def clicked(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A link is followed."""
    event = _react(course, journey, "clicked", at_ms, cause, link_id="main")
    course.soon(page_viewed, journey, event, 2_500)
    return event


def page_viewed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The page behind the link is looked at."""
    campaign = journey.campaign
    event = _result(course, journey, "page_viewed", at_ms, cause, page_id=f"{campaign.name}_page")
    if course.rng.random() < 0.6:  # noqa: PLR2004 - most go on to the action
        course.soon(acted, journey, event, 30_000)
    return event


def acted(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The action of the message is taken; what follows is the campaign's matter."""
    campaign = journey.campaign
    action = "buy" if campaign.price_minor else "confirm"
    event = _react(course, journey, "cta", at_ms, cause, action=action)
    if campaign.purpose == "new_player_reg":
        course.soon(registered, journey, event, 40_000)
    elif campaign.price_minor:
        takes = course.rng.random() < 0.7  # noqa: PLR2004 - seven of ten who press the button
        course.soon(taken if takes else declined, journey, event, 35_000)
    return event


def registered(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person signs up."""
    return _result(course, journey, "registered", at_ms, cause, source_system="accounts")


def taken(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person takes the offer, and pays."""
    offer = f"{journey.campaign.name}_offer"
    event = _result(course, journey, "accepted", at_ms, cause, offer_id=offer)
    course.soon(paid, journey, event, 50_000)
    return event


def declined(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person turns the offer down."""
    reason = course.rng.choice(("not_interested", "too_expensive", "not_now", "already_has"))
    return _result(course, journey, "declined", at_ms, cause, reason=reason)


def paid(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """Money comes in: one to four pieces at the campaign's price."""
    campaign, rng = journey.campaign, course.rng
    money = {
        "amount_minor": campaign.price_minor * rng.choice((1, 1, 1, 2, 4)),
        "currency": campaign.currency,
        "payment_id": draw_id(rng, "pay-"),
    }
    event = _result(course, journey, "payment_received", at_ms, cause, **money)
    if rng.random() < 0.06:  # noqa: PLR2004 - one in sixteen sends it back
        course.soon(refunded, journey, event, 600_000)
    return event


def refunded(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """Money goes back."""
    campaign = journey.campaign
    return _result(
        course,
        journey,
        "refunded",
        at_ms,
        cause,
        amount_minor=campaign.price_minor,
        currency=campaign.currency,
        reason=course.rng.choice(("customer_request", "not_delivered", "duplicate")),
    )
