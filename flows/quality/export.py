"""Lineage in OpenLineage's words: topics, flows, and what was observed, as events of its 1.x spec.

Source: OpenLineage spec 2-0-2 (run, job and dataset events) and its dataset facets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from flows.catalog import FLOWS
from flows.quality.edges import SOURCE, TOPIC
from schemas.topics_catalog import Topic, load_topics

NAMESPACE: Final = "airside"
PRODUCER: Final = "https://airside.example/lineage"
_SPEC: Final = "https://openlineage.io/spec"
_CORE: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/"

OBSERVED_JOB: Final = "observed"
CHECK_JOB: Final = "lineage_check"

FACTS: Final = "clickhouse.facts"
_WRITTEN: Final = {
    "ingest": (FACTS, "clickhouse.rollup_1m_lanes", "clickhouse.fates", "clickhouse.quarantine"),
    "journey": ("clickhouse.journeys", "clickhouse.outcomes"),
    "quality": ("clickhouse.quality", "clickhouse.anomalies", "clickhouse.lineage_edges"),
}
COLUMNS: Final = {
    "event_id": "ce_id",
    "event_type": "ce_type",
    "source": "ce_source",
    "event_time": "ce_time",
    "purpose": "ce_datapurpose",
    "class": "ce_dataclassification",
    "category": "ce_datacategory",
    "subject": "ce_subject",
    "journey": "ce_correlationid",
    "cause": "ce_causationid",
    "hops": "ce_datahops",
}
"""Columns of facts that are attributes of the ticket."""

ObservedEdge = tuple[str, str, bool, int]
"""From, to, declared, events."""


def export(observed: Sequence[ObservedEdge], at_ms: int) -> list[dict[str, Any]]:
    """Events: each topic, each flow with its inputs and outputs, and two runs of what was observed.

    One says from where to where data went, the other whether that was declared.

    Units: `at_ms` since 1970 UTC, the time of all events.
    """
    at = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat().replace("+00:00", "Z")
    found = [_dataset_event(topic, at) for topic in load_topics().values()]
    found.append(_facts_event(at))
    found += [_job_event(flow, at) for flow in _WRITTEN]
    if observed:
        found += [_run_event(observed, at), _check_event(observed, at)]
    return found


def _facet(name: str, version: str, content: dict[str, Any]) -> dict[str, Any]:
    schema = f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **content}


def _event(kind: str, at: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"eventTime": at, "producer": PRODUCER, "schemaURL": _CORE + kind, **content}


def _name(name: str, **more: Any) -> dict[str, Any]:
    return {"namespace": NAMESPACE, "name": name, **more}


def _dataset_event(topic: Topic, at: str) -> dict[str, Any]:
    tags = [
        {"key": "dataclassification", "value": name, "source": "SCHEMA"} for name in topic.classes
    ]
    owners = [{"name": f"team:{topic.owner}", "type": "OWNER"}]
    facets = {
        "documentation": _facet(
            "DocumentationDatasetFacet", "1-0-1", {"description": topic.purpose}
        ),
        "ownership": _facet("OwnershipDatasetFacet", "1-0-1", {"owners": owners}),
        "tags": _facet("TagsDatasetFacet", "1-0-0", {"tags": tags}),
    }
    return _event("DatasetEvent", at, {"dataset": _name(topic.topic, facets=facets)})


def _facts_event(at: str) -> dict[str, Any]:
    inputs = [name for name, topic in load_topics().items() if topic.event_types]
    fields = {
        column: {
            "inputFields": [
                _name(
                    topic,
                    field=header,
                    transformations=[{"type": "DIRECT", "subtype": "IDENTITY", "masking": False}],
                )
                for topic in inputs
            ]
        }
        for column, header in COLUMNS.items()
    }
    lineage = _facet("ColumnLineageDatasetFacet", "1-2-0", {"fields": fields})
    return _event("DatasetEvent", at, {"dataset": _name(FACTS, facets={"columnLineage": lineage})})


def _job_event(flow: str, at: str) -> dict[str, Any]:
    shape = FLOWS[flow]
    topics = [name for name, topic in load_topics().items() if f"airside-{flow}" in topic.producers]
    kind = {"processingType": "STREAMING", "integration": "AIRSIDE", "jobType": "FLOW"}
    facets = {"jobType": _facet("JobTypeJobFacet", "2-0-3", kind)}
    content = {
        "job": _name(flow, facets=facets),
        "inputs": [_name(name) for name in (*shape.tables, *shape.streams)],
        "outputs": [_name(name) for name in (*topics, *_WRITTEN[flow])],
    }
    return _event("JobEvent", at, content)


def _run_event(observed: Sequence[ObservedEdge], at: str) -> dict[str, Any]:
    """What was seen, as one run: from sources to topics."""
    sources = sorted({edge[0] for edge in observed if edge[0].startswith(SOURCE)})
    topics = sorted({edge[1] for edge in observed if edge[1].startswith(TOPIC)})
    content = {
        "inputs": [_name(name) for name in sources],
        "outputs": [_name(topic.removeprefix(TOPIC)) for topic in topics],
    }
    return _event("RunEvent", at, {**_run(OBSERVED_JOB, at), **content})


def _check_event(observed: Sequence[ObservedEdge], at: str) -> dict[str, Any]:
    """Whether it was declared, as a run that checks topics: assertions are of what a job reads."""
    inputs = []
    for topic in sorted({edge[1] for edge in observed if edge[1].startswith(TOPIC)}):
        checks = [
            {"assertion": f"declared: {first} to {topic}", "success": declared}
            for first, to, declared, _ in observed
            if to == topic
        ]
        facet = _facet("DataQualityAssertionsDatasetFacet", "1-0-1", {"assertions": checks})
        name = topic.removeprefix(TOPIC)
        inputs.append(_name(name, inputFacets={"dataQualityAssertions": facet}))
    return _event("RunEvent", at, {**_run(CHECK_JOB, at), "inputs": inputs, "outputs": []})


def _run(job: str, at: str) -> dict[str, Any]:
    run = str(uuid5(NAMESPACE_URL, f"{NAMESPACE}/{job}/{at}"))
    return {"eventType": "OTHER", "run": {"runId": run}, "job": _name(job)}
