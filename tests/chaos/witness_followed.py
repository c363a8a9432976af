"""Read back what followed behind the gate, for its oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Message

from tests.chaos.oracle import INPUT_TOPICS, Place, Told
from tests.chaos.oracle_followed import (
    DECISIONS_SQL,
    FOLLOWED_TABLES,
    FOLLOWED_TOPICS,
    JOURNEYS_SQL,
    FollowedEvidence,
    Word,
    act_of,
    word_of,
)
from tests.chaos.witness import headers_in, leaking, read_all, rows_of


def collect_followed(
    servers: str, client: Client, told: Mapping[Place, Told]
) -> tuple[FollowedEvidence, dict[str, int]]:
    """Read it all; gives the evidence, and the rows with planted values by table."""
    words: list[Word] = []
    acts: dict[Place, str] = {}

    def take_word(message: Message) -> None:
        headers = headers_in(message)
        words.append(word_of(message.topic() or "", message.key(), message.value(), headers))

    def take_input(message: Message) -> None:
        place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
        if place in told:
            body: dict[str, Any] = json.loads(message.value() or b"{}")
            machine = body.get("machine") is True
            acts[place] = act_of(told[place].event_type, machine=machine)

    read_all(servers, FOLLOWED_TOPICS, take_word)
    read_all(servers, INPUT_TOPICS, take_input)
    evidence = FollowedEvidence(
        told=told,
        acts=acts,
        words=words,
        journeys=rows_of(client, JOURNEYS_SQL),
        decisions=rows_of(client, DECISIONS_SQL),
    )
    return evidence, {table: leaking(client, table) for table in FOLLOWED_TABLES}
