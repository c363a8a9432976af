"""What is published when a journey leaves the process: `airside.exception.detected.v1`.

A statement about what was known when event time had passed `at`. It is not taken back when a late
event corrects it: `airside process conformance` is the audit.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from schemas.events.body import Strict
from schemas.events.fields import Channel, Identifier, Instant, Label, Pseudonym, Seconds

EXCEPTIONS_TOPIC: Final = "ntf.exceptions.v1"
DETECTED: Final = "airside.exception.detected.v1"

ExceptionId = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9a-f]{16}$")]
Rule = Annotated[str, StringConstraints(min_length=1, max_length=160)]
ActName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class DetectedException(Strict):
    """A journey that left the process, as known when event time had passed it.

    By a relation that is not allowed, a step missing at an end, or a deadline that passed. `act` is
    the step that it is about, `previous` the one before it, `allowed_s` the deadline.
    """

    exception_id: ExceptionId
    rule: Rule
    kind: Literal["forbidden", "missing", "overdue"]
    at: Instant
    process: Label
    act: ActName
    previous: ActName | None = None
    allowed_s: Seconds | None = None
    journey_id: Identifier
    notification_id: Identifier
    subject: Pseudonym
    campaign: Label
    tenant: Label
    channel: Channel | None = None
    arm: Label | None = None
