"""Where records go, and how: the sinks of a flow as the settings ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.kafka.sink import RecordSink
from connectors.kafka.transactions import TransactionalSink
from flows import everything
from flows.settings import Settings
from flows.timing.record import DECISION_TOPIC
from schemas.topics_catalog import load_topics


def make_record_sink(
    settings: Settings,
    flow_id: str,
    *,
    own: Sequence[int],
    sources: Sequence[str],
    meanwhile: Callable[[], None] | None = None,
) -> RecordSink | TransactionalSink:
    """The sink for the delivery that the settings ask for.

    `meanwhile` is called while commits are under way, where there are some.
    """
    kafka = settings.kafka
    if kafka.delivery == "at_least_once":
        return make_prompt_sink(settings, own=own)
    return TransactionalSink(
        bootstrap_servers=kafka.bootstrap_servers,
        application=f"airside.{settings.node}.{flow_id}",
        lanes=settings.lanes,
        own=own,
        sources=sources,
        outputs=topics_of(flow_id),
        timeout_s=kafka.transaction_s_max,
        step_s_max=kafka.delivery_s_max,
        level=kafka.level,
        extra=kafka.extra,
        meanwhile=meanwhile,
    )


def topics_of(flow_id: str) -> list[str]:
    """The topics that this flow writes to in transactions, and nobody but Airside does.

    Decisions leave at once: that one is there does not show that its epoch was committed.
    """
    return [
        topic.topic
        for topic in load_topics().values()
        if topic.topic != DECISION_TOPIC
        and all(name.startswith("airside-") for name in topic.producers)
        and (flow_id == everything.FLOW_ID or f"airside-{flow_id}" in topic.producers)
    ]


def make_prompt_sink(settings: Settings, *, own: Sequence[int], linger_ms: float = 5) -> RecordSink:
    """The sink for what has to be out at once, and may be repeated.

    Units: `linger_ms` is how long a record may wait for others to share a batch.
    """
    kafka = settings.kafka
    return RecordSink(
        bootstrap_servers=kafka.bootstrap_servers,
        lanes=settings.lanes,
        own=own,
        delivery_s_max=kafka.delivery_s_max,
        level=kafka.level,
        linger_ms=linger_ms,
        extra=kafka.extra,
    )
