"""Lineage in OpenLineage's words: valid, complete, and true to what was seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from flows.quality.export import export
from schemas.topics_catalog import load_topics
from tests.unit.flows.quality.openlineage import EVENT

AT_MS = 1_790_000_000_000
OBSERVED = [
    ("source:/game/signup", "topic:ntf.requests.v1", True, 7),
    ("hop:in.gw1", "hop:va.gw1", True, 7),
    ("hop:va.gw1", "topic:ntf.requests.v1", True, 7),
    ("source:/unheard/of", "topic:ntf.requests.v1", False, 1),
]
CHECK = Draft202012Validator(EVENT)


def test_every_event_has_the_published_shape() -> None:
    assert [] == [
        error.message for one in export(OBSERVED, AT_MS) for error in CHECK.iter_errors(one)
    ]


@pytest.mark.parametrize("name", ["eventTime", "producer", "schemaURL", "job", "dataset"])
def test_an_event_without_a_part_has_not(name: str) -> None:
    events = [one for one in export(OBSERVED, AT_MS) if name in one]
    broken = [copy.deepcopy(one) for one in events]
    for one in broken:
        del one[name]

    assert events
    assert not any(CHECK.is_valid(one) for one in broken)


def test_each_topic_is_a_dataset_with_its_classes_as_tags() -> None:
    found: dict[str, Any] = {
        one["dataset"]["name"]: one["dataset"]["facets"]
        for one in export([], AT_MS)
        if "dataset" in one
    }

    for name, topic in load_topics().items():
        assert list(topic.classes) == [tag["value"] for tag in found[name]["tags"]["tags"]]


def test_an_undeclared_edge_is_a_failed_assertion_of_the_run() -> None:
    run, check = (one for one in export(OBSERVED, AT_MS) if "run" in one)
    [topic] = check["inputs"]
    checks = topic["inputFacets"]["dataQualityAssertions"]["assertions"]

    assert ["declared: source:/unheard/of to topic:ntf.requests.v1"] == [
        check["assertion"] for check in checks if not check["success"]
    ]
    assert ["source:/game/signup", "source:/unheard/of"] == [one["name"] for one in run["inputs"]]
    assert ["ntf.requests.v1"] == [one["name"] for one in run["outputs"]] == [topic["name"]]
    assert run["run"] != check["run"]


def test_assertions_of_what_was_written_have_not_the_published_shape() -> None:
    """The facet is of inputs: readers of lineage do not look for it anywhere else."""
    check = export(OBSERVED, AT_MS)[-1]
    assert CHECK.is_valid(check)
    check["outputs"] = check.pop("inputs")

    assert not CHECK.is_valid(check)


def test_without_anything_seen_there_is_no_run() -> None:
    assert not [one for one in export([], AT_MS) if "run" in one]
