"""Steps of delivery: senders and their providers try, report, bounce and fail over."""

from __future__ import annotations

from typing import Any, Final

from flows.simulate import reacting
from flows.simulate.chance import draw_id
from flows.simulate.course import Course, Journey
from flows.simulate.events import Event, time_text

_PROVIDERS: Final = {
    "email": ("postwing", "mailreef"),
    "sms": ("textbridge", "ringo"),
    "push": ("pushlane", "cloudtap"),
    "web_push": ("pushlane", "webtap"),
    "in_app": ("inhouse", "inhouse2"),
    "chat": ("chatpier", "talkdock"),
    "voice": ("ringo", "voicepath"),
}
_DEFERRED: Final = ("provider_busy", "greylisted", "device_offline", "rate_limit", "timeout")
_BOUNCED: Final = ("no_such_recipient", "mailbox_full", "blocked", "policy", "other")
_FAILED: Final = ("provider_error", "timeout", "token_invalid", "attempts_exhausted")
_ATTEMPTS_MAX: Final = 3


def _report(
    course: Course, journey: Journey, word: str, at_ms: int, cause: str, **fields: Any
) -> Event:
    arm = {"arm": journey.arm} if journey.arm else {}
    return course.tell(
        journey,
        f"ntf.delivery.{word}.v1",
        at_ms,
        cause,
        channel=journey.channel,
        provider=journey.provider,
        **arm,
        **fields,
    )


def queued(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message waits for its sender."""
    first, second = _PROVIDERS[journey.channel]
    journey.provider = second if journey.failed_over else first
    event = _report(course, journey, "queued", at_ms, cause)
    course.soon(attempted, journey, event, 600)
    return event


def attempted(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The sender tries."""
    tries = {"attempt": journey.attempt, "attempts_max": _ATTEMPTS_MAX, "retryable": True}
    event = _report(course, journey, "attempted", at_ms, cause, **tries)
    luck = course.rng.random()
    if luck < 0.04 and journey.attempt < _ATTEMPTS_MAX:  # noqa: PLR2004 - one in 25
        course.soon(deferred, journey, event, 900)
    elif luck < 0.07:  # noqa: PLR2004 - three in a hundred
        course.soon(failed, journey, event, 1_500)
    else:
        course.soon(sent, journey, event, 350)
    return event


def deferred(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The provider asks for patience; the sender tries again."""
    until_ms = at_ms + 30_000 * journey.attempt
    reason = course.rng.choice(_DEFERRED)
    event = _report(
        course, journey, "deferred", at_ms, cause, reason=reason, until=time_text(until_ms)
    )
    journey.attempt += 1
    course.later(attempted, journey, until_ms, event.id)
    return event


def failed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is given up on this channel; some leave it for another."""
    event = _report(course, journey, "failed", at_ms, cause, reason=course.rng.choice(_FAILED))
    _fail_over(course, journey, event)
    return event


def sent(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The provider takes the message and names it."""
    journey.message_id = draw_id(course.rng, "msg-")
    event = _report(course, journey, "sent", at_ms, cause, message_id=journey.message_id)
    bounces = course.rng.random() < (0.035 if journey.channel == "email" else 0.01)
    course.soon(bounced if bounces else delivered, journey, event, 1_800)
    return event


def bounced(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message comes back."""
    hard = course.rng.random() < 0.6  # noqa: PLR2004 - most bounces are for good
    event = _report(
        course,
        journey,
        "bounced",
        at_ms,
        cause,
        bounce="hard" if hard else "soft",
        reason=course.rng.choice(_BOUNCED),
        message_id=journey.message_id,
    )
    _fail_over(course, journey, event)
    return event


def _fail_over(course: Course, journey: Journey, event: Event) -> None:
    if not journey.failed_over and course.rng.random() < 0.6:  # noqa: PLR2004 - where it pays
        course.soon(failed_over, journey, event, 800)


def failed_over(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message leaves for another channel and its provider."""
    others = [name for name in journey.campaign.channels if name != journey.channel]
    to_channel = course.rng.choice(others or [journey.channel])
    event = _report(
        course,
        journey,
        "failover",
        at_ms,
        cause,
        to_channel=to_channel,
        to_provider=_PROVIDERS[to_channel][1],
        reason=course.rng.choice(("provider_error", "timeout", "undelivered", "bounced")),
    )
    journey.failed_over, journey.channel, journey.attempt = True, to_channel, 1
    course.soon(queued, journey, event, 300)
    return event


def delivered(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is there; whether the person reacts depends on their hour."""
    event = _report(course, journey, "delivered", at_ms, cause, message_id=journey.message_id)
    if journey.person is not None:
        look_ms = at_ms + course.patience_ms(journey, at_ms)
        # The odds are those of the hour of delivery: a message at a bad hour is buried by morning.
        odds = min(0.25 + 0.7 * course.readiness(journey, at_ms), 0.97)
        if course.rng.random() < odds:
            course.later(reacting.seen, journey, look_ms, event.id)
        elif course.rng.random() < 0.3:  # noqa: PLR2004 - a scanner or a prefetch
            course.soon(reacting.opened_by_machine, journey, event, 4_000)
    return event
