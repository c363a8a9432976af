"""A timing lane behind a real gate, fed with messages."""

from __future__ import annotations

from typing import Any

from flows.ingest import make_checker, make_gate, read_policy
from flows.steps.accept import NOTICE_TOPICS, notices_of
from schemas.blocks import Followed
from tests.messages import Message, settings
from tests.timing_world import Tape, decisions, lane


class Post:
    """Where messages are handed in, and decisions come out."""

    def __init__(self, **timing: Any) -> None:
        made = settings(timing=timing, time={"lateness_s_max": 31_000_000})
        policy = read_policy(made)
        self._checker = make_checker(made, policy)
        self._gate = make_gate(made, policy, followed=True)
        self._tape = Tape()
        self.lane = lane(**timing)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def take(self, *messages: Message, received_ms: int | None = None) -> Followed:
        """Hand in messages of one topic as a block."""
        raw = self._tape.block(*messages, received_ms=received_ms)
        if raw.topic in NOTICE_TOPICS:
            return self.lane.follow(notices_of(raw))
        outputs = self._gate.pass_block(self._checker.check(raw))
        codes = {code for (_, code), count in outputs.counts.items() if count}
        assert codes <= {"", "T606"}, codes
        assert outputs.accepted is not None
        followed = self.lane.follow(outputs.accepted)
        for rows in followed.rows:
            lines = zip(*rows.columns.values(), strict=True)
            kept = self.rows.setdefault(rows.table, [])
            kept += [dict(zip(rows.columns, line, strict=True)) for line in lines]
        return followed

    def ask(self, *messages: Message, received_ms: int | None = None) -> list[dict[str, Any]]:
        """Hand in requests, and get the bodies of their decisions."""
        return decisions(self.take(*messages, received_ms=received_ms).prompt)
