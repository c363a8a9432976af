"""Metrics as data: what a catalog may say, and what is said of names that it does not have."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from schemas.errors import ConfigError
from schemas.metrics import Catalog, load_catalog, parse_expression, read_catalog

SMALL: dict[str, Any] = {
    "models": {
        "journeys": {
            "table": "journeys FINAL",
            "time": "started_at",
            "dimensions": {"campaign": "campaign", "arm": "arm"},
            "measures": {
                "sent": {"sql": "countIf(sent)"},
                "paid": {"sql": "sum(amount_minor)", "money": True},
            },
        },
        "events": {
            "table": "rollup_1m_lanes FINAL",
            "time": "w",
            "dimensions": {"campaign": "campaign", "channel": "channel"},
            "measures": {"n": {"sql": "sum(n)"}},
        },
    },
    "metrics": [
        {
            "name": "sent",
            "says": "messages sent",
            "type": "simple",
            "model": "journeys",
            "measure": "sent",
        },
        {
            "name": "seen",
            "says": "events seen",
            "type": "simple",
            "model": "events",
            "measure": "n",
        },
        {
            "name": "share",
            "says": "seen by sent",
            "type": "ratio",
            "numerator": "seen",
            "denominator": "sent",
        },
        {"name": "extra", "says": "more seen than sent", "type": "derived", "expr": "seen - sent"},
    ],
}


def read(**changes: Any) -> Catalog:
    return read_catalog(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))


def with_metric(**metric: Any) -> list[dict[str, Any]]:
    return [*SMALL["metrics"], {"name": "new", "says": "a metric of this test", **metric}]


def test_the_catalog_that_comes_with_airside_is_whole() -> None:
    catalog = load_catalog()

    assert {"simple", "ratio", "derived", "cumulative", "conversion"} == {
        metric.type for metric in catalog.metrics
    }
    assert catalog.objectives


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (with_metric(type="simple", model="journeys", measure="lost"), "no measure journeys.lost"),
        (with_metric(type="ratio", numerator="sent", denominator="gone"), "no metric gone"),
        (with_metric(type="derived", expr="sent + gone"), "no metric gone"),
        (with_metric(type="derived", expr="sent.real"), "more than names, numbers"),
        (with_metric(type="derived", expr="exit()"), "more than names, numbers"),
        (with_metric(type="derived", expr="sent ** 2"), "more than names, numbers"),
        (with_metric(type="derived", expr="'a'"), "more than names, numbers"),
        (with_metric(type="derived", expr="sent -"), "no arithmetic"),
        (with_metric(type="derived", expr="new + 1"), "made of itself"),
        (with_metric(type="cumulative", metric="share"), "only a simple metric adds up"),
        ([*SMALL["metrics"], SMALL["metrics"][0]], "stand twice: sent"),
        (with_metric(type="conversion", base="delivered'", conversion="paid", window="7d"), "base"),
    ],
)
def test_a_catalog_that_does_not_hold_together_is_refused(metrics: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(metrics=metrics)


def test_a_key_result_names_a_metric() -> None:
    result = {"metric": "clicks", "baseline": 1, "target": 2, "due": "2027-03-31"}
    goal = {"objective": "more is clicked", "owner": "growth", "key_results": [result]}

    with pytest.raises(ConfigError, match="objective of growth: no metric clicks"):
        read(objectives=[goal])


def test_what_is_no_yaml_is_said() -> None:
    with pytest.raises(ConfigError, match="no YAML"):
        read_catalog("a: [")


def test_a_metric_may_be_asked_by_what_all_its_models_have() -> None:
    catalog = read()

    assert catalog.dimensions_of("sent") == ("campaign", "arm")
    assert catalog.dimensions_of("share") == ("campaign",)


def test_a_wrong_name_gets_the_nearest_ones() -> None:
    with pytest.raises(ConfigError, match=r'metric "sharre": .*; expected share') as caught:
        read().metric("sharre")

    assert caught.value.exit_code == ConfigError.exit_code


def test_a_name_that_is_near_nothing_gets_all() -> None:
    with pytest.raises(ConfigError, match="expected extra, seen, sent, share"):
        read().metric("zzzzzz")


def test_an_expression_keeps_its_brackets() -> None:
    parse_expression("(a + b) * 2 / c")
