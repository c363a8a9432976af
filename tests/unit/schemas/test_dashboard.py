"""Pages and panels as data: what they may say, and that what comes with the package fits."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from schemas.dashboard import Dashboard, load_dashboard, read_dashboard
from schemas.errors import ConfigError

PANEL: dict[str, Any] = {
    "panel": "rates",
    "title": "Rates",
    "says": "What was opened of it.",
    "metrics": ["open_rate"],
    "over_time": True,
    "chart": {"kind": "lines", "x": "t", "y": ["open_rate"]},
}


def read(*panels: dict[str, Any]) -> Dashboard:
    page = {"page": "one", "title": "One", "says": "A page with panels.", "panels": list(panels)}
    return read_dashboard(yaml.safe_dump({"pages": [page]}))


def test_the_dashboard_of_the_package_reads() -> None:
    pages = load_dashboard().by_name

    assert ["traffic", "campaigns", "timing", "process", "quality"] == list(pages)


def test_a_panel_that_fits_is_taken() -> None:
    (panel,) = read(PANEL).by_name["one"].panels

    assert ("t", "open_rate") == panel.chart.columns


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"metrics": ["opened_rate"]}, "no metric opened_rate"),
        ({"metrics": []}, "either metrics or a query"),
        ({"query": "verdict"}, "either metrics or a query"),
        ({"by": ["class"]}, "open_rate cannot be asked by class"),
        ({"over_time": False}, "no column t"),
        ({"chart": {"kind": "lines", "x": "t"}}, "needs x and y"),
        ({"chart": {"kind": "heat", "x": "t", "y": ["open_rate"]}}, "needs z"),
        ({"chart": {"kind": "band", "x": "t", "y": ["open_rate"]}}, "needs low and high"),
        ({"colour": "red"}, "Extra inputs"),
        ({"metrics": [], "query": "verdict", "chart": {}}, "over_time are for metrics"),
    ],
)
def test_a_panel_that_does_not_fit_is_refused(change: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        read(PANEL | change)


def test_names_stand_once() -> None:
    with pytest.raises(ConfigError, match="a panel stands twice"):
        read(PANEL, PANEL)
    page = {"page": "one", "title": "One", "says": "A page with panels.", "panels": [PANEL]}
    with pytest.raises(ConfigError, match="a page stands twice"):
        read_dashboard(yaml.safe_dump({"pages": [page, page]}))


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="no YAML"):
        read_dashboard("pages: [")
