"""What the quality flow publishes: the body of `airside.quality.found.v1` on `ntf.quality.v1`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.events.body import Strict
from schemas.events.fields import Instant

QUALITY_TOPIC: Final = "ntf.quality.v1"
FOUND: Final = "airside.quality.found.v1"

Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Number = Annotated[int, Field(ge=0, le=2**53)]
Real = Annotated[float, Field(ge=-1e15, le=1e15)]


class QualityFound(Strict):
    """Something that changed in the quality of one producer's messages on one topic.

    `violation`: the share of failed messages of a minute crossed a bound of its rule; severity
    `ok` says that it is right again. `anomaly`: volume or mix of a minute is unlike those before.
    `undeclared_flow`: data came along an edge that nobody declared. Each lane of the flow tells
    what it sees of its own part of the partitions.
    """

    finding: Literal["violation", "anomaly", "undeclared_flow"]
    minute: Instant
    lane: Annotated[int, Field(ge=0, le=65_535)]
    dataset: Text
    producer: Text
    rule: Text
    dimension: Literal[
        "completeness", "validity", "uniqueness", "timeliness", "consistency", "volume", "lineage"
    ]
    severity: Literal["ok", "warn", "error"]
    checked: Number | None = None
    failed: Number | None = None
    expected: Real | None = None
    observed: Real | None = None
    score: Real | None = None
    from_node: Text | None = None
    to_node: Text | None = None
