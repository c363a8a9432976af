"""Observed lineage: along which edges data came, and whether somebody declared them."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from schemas.blocks import AcceptedBlock, Rows, rows_of
from schemas.quality import Lineage
from schemas.topics_catalog import load_topics

SOURCE: Final = "source:"
HOP: Final = "hop:"
TOPIC: Final = "topic:"
MANY: Final = "hop:(many)"
"""The gates that a long history left out, or that are beyond the bound."""

COLUMNS: Final = (
    "from_node",
    "to_node",
    "lane",
    "declared",
    "n",
    "first_at",
    "last_at",
    "ver",
)
_TIMES: Final = re.compile(r"\.[0-9A-Z]+[a-z]*(?=[>\n]|$)")


class Edge(NamedTuple):
    """From where to where."""

    from_node: str
    to_node: str


class Undeclared(NamedTuple):
    """An edge that nobody declared, with the event that it was first seen by."""

    edge: Edge
    dataset: str
    producer: str
    at_ms: int


class Edges:
    """The edges that one lane has seen.

    State: for each edge how many events, and the first and last event time; beside it, and in no
    snapshot, whether it is declared. `edges_max`: those beyond are one edge of `hop:(many)`.
    """

    def __init__(self, lineage: Lineage, *, edges_max: int) -> None:
        self._lineage = lineage
        self._max = edges_max
        self._edges: dict[Edge, list[int]] = {}
        self._declared: dict[Edge, bool] = {}

    def take(self, block: AcceptedBlock) -> tuple[list[Undeclared], Rows]:
        """Count a block's edges; the undeclared ones that are new, and the rows that changed."""
        ways = _TIMES.sub("", "\n".join(block.hops)).split("\n")
        sources = [label.source for label in block.labels]
        seen: dict[tuple[str, str], list[int]] = {}
        for source, way, at_ms in zip(sources, ways, block.times_ms, strict=True):
            seen.setdefault((source, way), []).append(at_ms)
        changed: dict[Edge, None] = {}
        found: list[Undeclared] = []
        for (source, way), times in seen.items():
            first_ms, last_ms = min(times), max(times)
            for edge in edges_of(source, way, block.topic):
                known = self._bounded(edge)
                if known not in self._edges and not self.is_declared(known):
                    found.append(Undeclared(known, block.topic, source, first_ms))
                self._add(known, len(times), first_ms, last_ms)
                changed[known] = None
        return found, self._rows(list(changed), block.lane)

    def _bounded(self, edge: Edge) -> Edge:
        if edge in self._edges or len(self._edges) < self._max:
            return edge
        return Edge(MANY, MANY)

    def _add(self, edge: Edge, n: int, first_ms: int, last_ms: int) -> None:
        old = self._edges.setdefault(edge, [0, first_ms, last_ms])
        old[0] += n
        old[1], old[2] = min(old[1], first_ms), max(old[2], last_ms)

    def is_declared(self, edge: Edge) -> bool:
        """Tell whether the topics and the rules declare an edge."""
        if edge.to_node.startswith(TOPIC):
            topic = edge.to_node.removeprefix(TOPIC)
            if edge.from_node.startswith(SOURCE):
                source = edge.from_node.removeprefix(SOURCE)
                # A routed topic has the origin's source: its own producer is the last hop.
                routed = not load_topics()[topic].event_types if topic in load_topics() else False
                return routed or self._lineage.may_produce(source, topic)
            return True
        if MANY in edge:
            return edge.from_node != edge.to_node
        stages = [node.removeprefix(HOP).partition(".")[0] for node in edge]
        return self._lineage.may_follow(stages[1], stages[0])

    def _rows(self, edges: list[Edge], lane: int) -> Rows:
        lines: list[tuple[Any, ...]] = []
        for edge in edges:
            n, first_ms, last_ms = self._edges[edge]
            declared = self._declared.get(edge)
            if declared is None:
                declared = self._declared[edge] = self.is_declared(edge)
            lines.append((*edge, lane, declared, n, first_ms, last_ms, n))
        return rows_of("lineage_edges", COLUMNS, lines)

    def dump(self) -> list[Any]:
        """A copy, for a snapshot."""
        return [[*edge, *numbers] for edge, numbers in self._edges.items()]

    def load(self, dumped: list[Any]) -> None:
        """Take back what `dump` gave."""
        self._edges = {Edge(a, b): list(numbers) for a, b, *numbers in dumped}


def edges_of(source: str, way: str, topic: str) -> list[Edge]:
    """The edges of one event: its source to its topic, gate to gate, and the last gate to it.

    >>> edges_of("/game", "in.gw1>va.gw1", "ntf.requests.v1")[1:]
    [Edge(from_node='hop:in.gw1', to_node='hop:va.gw1'), Edge(from_node='hop:va.gw1', to_node='topic:ntf.requests.v1')]
    """  # noqa: E501 - the real output
    end = TOPIC + topic
    found = [Edge(SOURCE + source, end)]
    if not way:
        return found
    nodes = [MANY if part.startswith("~") else HOP + part for part in way.split(">")]
    pairs = zip(nodes, [*nodes[1:], end], strict=True)
    return found + [Edge(*pair) for pair in pairs]
