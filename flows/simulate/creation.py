"""Steps of creation and orchestration: a request becomes a journey, and a message with a time."""

from __future__ import annotations

from typing import Final

from flows.simulate import sending
from flows.simulate.chance import draw_id
from flows.simulate.course import Course, Journey
from flows.simulate.events import Event, time_text
from flows.simulate.rhythm import HOUR_MS, hour_of_day

_REJECTED: Final = ("unknown_template", "no_channel_allowed", "over_quota", "not_permitted")
_SUPPRESSED: Final = (
    "frequency_cap",
    "quiet_hours",
    "holdout",
    "low_score",
    "rate_limit",
    "opted_out",
    "no_channel",
    "filtered",
)
_CANCELED: Final = ("requested", "superseded", "goal_reached", "campaign_stopped")
_RENDER_FAILED: Final = ("variable_missing", "template_missing", "locale_missing")
_NIGHT: Final = (22, 7)


def created(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A producer asks for the notification."""
    campaign, person, rng = journey.campaign, journey.person, course.rng
    key = draw_id(rng, "idem-")
    event = course.tell(
        journey,
        "ntf.request.created.v1",
        at_ms,
        cause,
        template=f"{campaign.name}_1",
        channels_allowed=list(campaign.channels),
        priority=campaign.priority,
        idempotency_key=key,
        **({"recipient": person.subject} if person else {"audience": campaign.audience}),
        **({"goal": {"metric": "paid", "window_s": 86_400}} if campaign.price_minor else {}),
    )
    luck = rng.random()
    answer = accepted
    if luck < 0.02:  # noqa: PLR2004 - one in fifty is turned down
        answer = rejected
    elif luck < 0.03:  # noqa: PLR2004 - and one in a hundred is a double click
        answer = repeated
    course.soon(answer, journey, event, 120)
    return event


def rejected(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The request is refused; the journey ends."""
    kind = "ntf.request.rejected.v1"
    key, reason = draw_id(course.rng, "idem-"), course.rng.choice(_REJECTED)
    return course.tell(journey, kind, at_ms, cause, idempotency_key=key, reason=reason)


def repeated(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The request repeats an earlier one; the journey ends."""
    kind = "ntf.request.duplicate.v1"
    key, first = draw_id(course.rng, "idem-"), draw_id(course.rng, "ntf-")
    return course.tell(journey, kind, at_ms, cause, idempotency_key=key, duplicate_of=first)


def accepted(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The request will be orchestrated."""
    kind = "ntf.request.accepted.v1"
    key = draw_id(course.rng, "idem-")
    event = course.tell(journey, kind, at_ms, cause, idempotency_key=key)
    course.soon(opened if journey.person else resolved, journey, event, 250)
    return event


def resolved(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A broadcast learns how many it goes to."""
    kind = "ntf.request.audience_resolved.v1"
    size = course.rng.randrange(50, 90_000)
    audience = journey.campaign.audience
    event = course.tell(journey, kind, at_ms, cause, audience=audience, size=size)
    course.soon(digest_opened, journey, event, 400)
    return event


def digest_opened(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A broadcast collects what belongs into it."""
    kind, until = "ntf.orchestration.digest_opened.v1", time_text(at_ms + 600_000)
    digest = f"digest-{journey.id}"
    event = course.tell(journey, kind, at_ms, cause, digest_id=digest, until=until)
    course.soon(digest_merged, journey, event, 300_000)
    return event


def digest_merged(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The digest becomes one message."""
    kind = "ntf.orchestration.digest_merged.v1"
    digest, size = f"digest-{journey.id}", course.rng.randrange(2, 12)
    event = course.tell(journey, kind, at_ms, cause, digest_id=digest, size=size)
    course.soon(scheduled, journey, event, 500)
    return event


def opened(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The journey of one recipient begins."""
    campaign = journey.campaign
    event = course.tell(
        journey,
        "ntf.journey.created.v1",
        at_ms,
        cause,
        template=f"{campaign.name}_1",
        channels_allowed=list(campaign.channels),
        priority=campaign.priority,
    )
    course.soon(checked, journey, event, 150)
    return event


def checked(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The person's preferences are read; some journeys end here."""
    person, rng = journey.person, course.rng
    channels = list(person.channels) if person else []
    kind = "ntf.orchestration.preference_checked.v1"
    event = course.tell(journey, kind, at_ms, cause, channels=channels)
    if rng.random() < 0.08:  # noqa: PLR2004 - one in twelve is suppressed
        course.soon(suppressed, journey, event, 60)
        return event
    if journey.arm:
        course.soon(assigned, journey, event, 40)
    course.soon(chosen, journey, event, 200)
    return event


def suppressed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """No message is sent, for a reason; the journey ends."""
    reason = course.rng.choice(_SUPPRESSED)
    return course.tell(journey, "ntf.orchestration.suppressed.v1", at_ms, cause, reason=reason)


def assigned(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The arm of the experiment is told, with the odds it was drawn at."""
    kind, name = "ntf.orchestration.variant_assigned.v1", journey.campaign.experiment
    return course.tell(
        journey, kind, at_ms, cause, experiment=name, arm=journey.arm, propensity=0.5
    )


def chosen(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """A channel is chosen among those that were compared."""
    rng = course.rng
    scores = [
        {"channel": name, "score": round(rng.random(), 3)} for name in journey.campaign.channels
    ]
    event = course.tell(
        journey,
        "ntf.orchestration.channel_selected.v1",
        at_ms,
        cause,
        channel=journey.channel,
        scores=scores,
        **arm_of(journey),
    )
    course.soon(render_failed if rng.random() < 0.01 else rendered, journey, event, 180)  # noqa: PLR2004 - one in a hundred
    return event


def rendered(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is made; at night it waits."""
    event = course.tell(
        journey,
        "ntf.orchestration.rendered.v1",
        at_ms,
        cause,
        channel=journey.channel,
        template=f"{journey.campaign.name}_1",
        **({"locale": journey.person.locale} if journey.person else {}),
        **arm_of(journey),
    )
    urgent = journey.campaign.priority in ("high", "critical")
    zone = journey.person.zone if journey.person else "UTC"
    hour = hour_of_day(zone, at_ms)
    night = hour >= _NIGHT[0] or hour < _NIGHT[1]
    course.soon(delayed if night and not urgent else scheduled, journey, event, 90)
    return event


def render_failed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message could not be made; the journey ends."""
    return course.tell(
        journey,
        "ntf.orchestration.render_failed.v1",
        at_ms,
        cause,
        channel=journey.channel,
        template=f"{journey.campaign.name}_1",
        reason=course.rng.choice(_RENDER_FAILED),
    )


def delayed(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message waits, for the morning or for a better time."""
    wait_ms = int(course.rng.uniform(0.2, 3.0) * HOUR_MS)
    event = course.tell(
        journey,
        "ntf.orchestration.delayed.v1",
        at_ms,
        cause,
        until=time_text(at_ms + wait_ms),
        reason=course.rng.choice(("quiet_hours", "best_time")),
        channel=journey.channel,
    )
    course.later(scheduled, journey, at_ms + wait_ms, event.id)
    return event


def scheduled(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message has its time; a few are called off before."""
    rng = course.rng
    wait_ms = int(rng.expovariate(1 / 20_000)) + 50
    kind, send_at = "ntf.orchestration.scheduled.v1", time_text(at_ms + wait_ms)
    event = course.tell(
        journey, kind, at_ms, cause, send_at=send_at, channel=journey.channel, **arm_of(journey)
    )
    follow = canceled if rng.random() < 0.015 else sending.queued  # noqa: PLR2004 - a few
    course.later(follow, journey, at_ms + wait_ms, event.id)
    return event


def canceled(course: Course, journey: Journey, at_ms: int, cause: str) -> Event:
    """The message is called off; the journey ends."""
    reason = course.rng.choice(_CANCELED)
    kind = "ntf.orchestration.canceled.v1"
    return course.tell(journey, kind, at_ms, cause, reason=reason, channel=journey.channel)


def arm_of(journey: Journey) -> dict[str, str]:
    """The arm as a field, where there is one."""
    return {"arm": journey.arm} if journey.arm else {}
