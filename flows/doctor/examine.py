"""All checks of one flow, in order; one that cannot run since another failed says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectors.clock import Clock, SystemClock
from flows.catalog import FLOWS
from flows.doctor import (
    check_clickhouse,
    check_kafka,
    check_level,
    check_machine,
    check_setup,
    check_software,
    check_store,
)
from flows.doctor.check_kafka import Wanted
from flows.doctor.check_store import Shape
from flows.doctor.finding import Finding, Report, not_checked
from flows.follow import SHARED
from flows.settings import Settings, read_settings
from schemas.policy import Policy
from schemas.topics_catalog import load_topics

NAMES: Final = (
    *check_software.NAMES,
    *check_setup.NAMES,
    *check_level.NAMES,
    *check_machine.NAMES,
    *check_kafka.NAMES,
    *check_clickhouse.NAMES,
    *check_store.NAMES,
)


def examine(
    flow: str,
    *,
    read: Callable[[], Settings] = read_settings,
    clock: Clock | None = None,
) -> Report:
    """Look at everything that a start of this flow depends on; change nothing.

    Delivery: safe to repeat, also beside a running flow.
    Errors: none of ours; each is a finding.
    """
    clock = clock or SystemClock()
    findings = check_software.check_software()
    setup, settings, policy = check_setup.check_setup(read)
    findings += setup
    if settings is None:
        rest = NAMES[len(findings) :]
        return Report(flow, (*findings, *not_checked(rest, "the settings cannot be read")))
    return Report(flow, (*findings, *_look_around(flow, settings, policy, clock)))


def _look_around(
    flow: str, settings: Settings, policy: Policy | None, clock: Clock
) -> list[Finding]:
    steps = FLOWS[flow].step_ids
    kafka, facts = check_kafka.check_kafka(settings, wanted_topics(flow, policy), clock)
    brokers = facts.cluster.brokers if facts else 1
    return [
        *check_level.check_level(settings),
        *check_machine.check_machine(settings, brokers=brokers),
        *kafka,
        *check_clickhouse.check_clickhouse(settings, clock),
        *check_store.check_store(settings, Shape(flow, settings.lanes, steps), facts),
    ]


def wanted_topics(flow: str, policy: Policy | None) -> Wanted:
    """The topics that a flow reads or writes, by the catalog and by the policy's destinations."""
    tables, streams, _ = FLOWS[flow]
    who = f"airside-{flow}"
    named = set(policy.destinations) if policy else set()
    topics = {
        name: topic
        for name, topic in load_topics().items()
        if name in named or who in topic.producers or who in topic.consumers
    }
    parted = tuple(name for name in (*tables, *streams) if name not in SHARED)
    return Wanted(parted, streams, topics, sorted(named - set(topics)))
