"""The dashboard on a running ClickHouse: figures against what was written, pages over HTTP."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import orjson
import pytest
import urllib3
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import ClickHouseAddress, connect
from flows.dashboard.answer import Answer, Asker
from flows.dashboard.figure import draw
from flows.dashboard.pages import ask_all
from flows.dashboard.queries import VIEWS
from flows.dashboard.scope import Scope
from flows.settings import read_settings
from schemas.dashboard import Panel, load_dashboard
from schemas.errors import ConfigError, TransientError
from tests.decisions_played import Told, play_decisions, write

UNTIL = datetime(2026, 11, 30, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=14)
SCOPE = Scope(int(SINCE.timestamp()), int(UNTIL.timestamp()), int(UNTIL.timestamp()) * 1_000)


@pytest.fixture(scope="module")
def told() -> Told:
    return play_decisions(people=300, days=14, until=UNTIL)


@pytest.fixture
def asker(clickhouse_tables: ClickHouseAddress, told: Told) -> Iterator[Asker]:
    client = connect(clickhouse_tables)
    write(client, told)
    yield Asker(client, _settings(clickhouse_tables))
    client.close()


def _settings(address: ClickHouseAddress) -> Any:
    places = {"url": address.url, "database": address.database}
    return read_settings({"kafka": {"bootstrap_servers": "-"}, "clickhouse": places})


def panel(name: str, page: str = "timing") -> Panel:
    return {each.panel: each for each in load_dashboard().by_name[page].panels}[name]


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [dict(zip(answer.columns, line, strict=True)) for line in answer.lines]


def test_every_query_that_panels_name_is_there(asker: Asker) -> None:
    named = {each.query for page in load_dashboard().pages for each in page.panels if each.query}

    assert named == asker.sources


@pytest.mark.parametrize("k", [0, 10])
def test_every_panel_answers_with_the_columns_that_it_draws(asker: Asker, k: int) -> None:
    """Also for a role that may not see small groups, but for what does not count people."""
    refused = set()
    for page in load_dashboard().pages:
        for one in ask_all(asker, page, SCOPE._replace(k=k)):
            if one.answer is None:
                refused.add(one.panel.panel)
                continue
            assert set(one.panel.chart.columns) <= set(one.answer.columns), one.panel.panel
            if one.answer.lines and one.panel.chart.kind not in {"table", "numbers"}:
                assert draw(one.panel.chart, one.answer) is not None

    assert ({"events", "classes"} if k else set()) == refused


def test_the_verdict_is_the_newest(asker: Asker, told: Told) -> None:
    (line,) = lines(asker.answer(panel("verdict"), SCOPE._replace(until_s=2**32 - 1)))
    finding = told.result.finding

    assert (finding.state.value, pytest.approx(finding.lift)) == (line["state"], line["lift"])
    assert (pytest.approx(finding.low), pytest.approx(finding.high)) == (line["low"], line["high"])


def test_lift_over_time_has_the_last_of_each_step(asker: Asker, told: Told) -> None:
    found = lines(asker.answer(panel("lift"), SCOPE._replace(until_s=2**32 - 1, since_s=1)))
    rows = told.rows["experiment_results"]
    weeks: dict[int, float] = {}
    for row in rows:
        weeks[int(row["at"].timestamp()) // 604_800] = row["lift"]

    assert list(weeks.values()) == pytest.approx([line["lift"] for line in found])


def test_rates_of_arms_are_those_of_what_was_written(asker: Asker, told: Told) -> None:
    answered = {row["decision_id"]: row["responded"] for row in told.rows["decision_outcomes"]}
    sends: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for row in told.rows["decisions"]:
        if row["requested_at"] < UNTIL:
            sends[row["arm"]] += 1
            answers[row["arm"]] += answered[row["decision_id"]]
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in lines(asker.answer(panel("arms"), SCOPE)):
        found[line["arm"]][0] += line["decisions"]
        found[line["arm"]][1] += line["answers"]
        assert line["rate"] == pytest.approx(line["answers"] / line["decisions"])

    assert {arm: [sends[arm], answers[arm]] for arm in sends} == found


def test_hours_of_the_holdout_have_the_interval_of_wilson(asker: Asker, told: Told) -> None:
    answered = {row["decision_id"]: row["responded"] for row in told.rows["decision_outcomes"]}
    drawn = defaultdict(list)
    for row in told.rows["decisions"]:
        if row["arm"] == "holdout" and row["requested_at"] < UNTIL:
            drawn[row["chosen_slot"] % 24].append(answered[row["decision_id"]])
    found = lines(asker.answer(panel("holdout"), SCOPE))

    assert sorted(drawn) == [line["hour"] for line in found]
    for line in found:
        values = drawn[line["hour"]]
        n, rate, z = len(values), float(np.mean(values)), 1.96
        middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
        assert (n, sum(values)) == (line["decisions"], line["answers"])
        assert [middle - half, middle + half] == pytest.approx([line["low"], line["high"]])


def test_expected_is_compared_with_what_came(asker: Asker, told: Told) -> None:
    answered = {row["decision_id"]: row["responded"] for row in told.rows["decision_outcomes"]}
    bins = defaultdict(list)
    for row in told.rows["decisions"]:
        if row["arm"] == "optimised" and row["requested_at"] < UNTIL:
            bins[int(row["score"] * 20)].append((row["score"], answered[row["decision_id"]]))
    found = lines(asker.answer(panel("calibration"), SCOPE))

    assert [len(bins[each]) for each in sorted(bins)] == [line["decisions"] for line in found]
    means = [tuple(np.mean(bins[each], axis=0)) for each in sorted(bins)]
    assert np.allclose(means, [(line["expected"], line["rate"]) for line in found])


def test_one_campaign_has_its_own_decisions(asker: Asker, told: Told) -> None:
    wanted = Counter(
        row["chosen_slot"]
        for row in told.rows["decisions"]
        if (row["campaign"], row["arm"]) == ("spring", "optimised") and row["requested_at"] < UNTIL
    )
    found = lines(asker.answer(panel("hours"), SCOPE._replace(campaign="spring")))

    assert wanted == {line["day"] * 24 + line["hour"]: line["decisions"] for line in found}


def test_small_groups_are_hidden_from_roles_that_may_not_see_them(asker: Asker, told: Told) -> None:
    people = defaultdict(set)
    for row in told.rows["decisions"]:
        if row["arm"] == "optimised" and row["requested_at"] < UNTIL:
            people[row["chosen_slot"]].add(row["subject"])
    many = {slot for slot, names in people.items() if len(names) >= 10}
    found = lines(asker.answer(panel("hours"), SCOPE._replace(k=10)))

    assert 0 < len(many) < len(people)
    assert many == {line["day"] * 24 + line["hour"] for line in found}
    assert [] == asker.answer(panel("verdict"), SCOPE._replace(k=1_000)).lines


def test_questions_about_people_count_them_or_are_refused(asker: Asker) -> None:
    """Each view either names k, or is about messages, rules and minutes alone."""
    about_no_people = {"doors", "refused", "faults", "latency", "failures"}

    assert about_no_people == {name for name, view in VIEWS.items() if "{k:" not in view.sql}
    with pytest.raises(ConfigError, match="no count of people"):
        asker.answer(panel("events", "traffic"), SCOPE._replace(k=10))


class Away:
    """A client whose server has gone."""

    def __init__(self) -> None:
        self.asked = 0

    def query(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        raise OSError


def test_once_clickhouse_is_away_no_further_panel_waits(
    clickhouse_tables: ClickHouseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    away = Away()
    client = cast("Client", away)
    page = load_dashboard().by_name["timing"]
    shown = ask_all(Asker(client, _settings(clickhouse_tables)), page, SCOPE)

    assert 2 == away.asked
    assert all(one.answer is None and "could not read" in one.fault for one in shown)
    with pytest.raises(TransientError):
        Asker(client, _settings(clickhouse_tables)).campaigns(SCOPE)


@pytest.fixture
def address(clickhouse_tables: ClickHouseAddress, told: Told, tmp_path: Any) -> Iterator[str]:
    """A served dashboard, with what was written behind it."""
    with connect(clickhouse_tables) as client:
        write(client, told)
    command = [sys.executable, "-m", "flows", "dashboard", "--port", "0"]
    places = {
        "AIRSIDE_KAFKA__BOOTSTRAP_SERVERS": "-",
        "AIRSIDE_CLICKHOUSE__URL": clickhouse_tables.url,
        "AIRSIDE_CLICKHOUSE__DATABASE": clickhouse_tables.database,
    }
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=places, text=True)
    assert child.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", child.stdout.readline())
    try:
        assert found is not None
        yield found[0]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)
        child.stdout.close()
    assert child.returncode in {0, -signal.SIGTERM}


def get(url: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, headers=headers, redirect=False, retries=False, timeout=20)


def test_pages_and_files_are_served_to_this_machine(address: str, told: Told) -> None:
    span = f"since={SINCE:%Y-%m-%d}&until={UNTIL:%Y-%m-%d}"
    home = get(f"{address}/?{span}")
    assert (303, f"/traffic?{span}") == (home.status, home.headers["location"])
    for page in load_dashboard().pages:
        found = get(f"{address}/{page.page}?{span}")
        text = found.data.decode()
        assert 200 == found.status
        assert all(f'<section id="{each.panel}"' in text for each in page.panels)
        assert 'role="alert"' not in text
        for figure in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text):
            assert {"data", "layout"} == set(orjson.loads(figure))
    policy = found.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    found = get(f"{address}/timing/arms.json?{span}")
    decided = sum(row["requested_at"] < UNTIL for row in told.rows["decisions"])
    assert decided == sum(line["decisions"] for line in orjson.loads(found.data)["lines"])
    table = get(f"{address}/timing/arms.csv?{span}").data.decode().splitlines()
    assert "t,arm,decisions,answers,rate" == table[0]
    assert len(orjson.loads(found.data)["lines"]) == len(table) - 1
    script = get(f"{address}/static/plotly.min.js")
    assert b"plotly.js" in script.data[:200]
    assert [200, 200, 200] == [
        get(f"{address}/{name}").status
        for name in ("static/dashboard.css", "static/dashboard.js", "healthz")
    ]


def test_what_cannot_be_shown_is_said(address: str) -> None:
    for path, status, says in (
        ("/nowhere", 404, "no such page"),
        ("/timing/nothing.json", 404, "no such panel"),
        ("/timing/arms.xml", 404, "no such panel"),
        ("/static/serve.py", 404, "no such file"),
        ("/static/..%2fserve.py", 404, ""),
        ("/timing?since=never", 400, "neither a span nor a time"),
        ("/timing?refresh=soon", 400, "no number of seconds"),
        ("/timing/arms.csv?since=never", 400, "neither a span nor a time"),
    ):
        found = get(address + path)
        assert (status, True) == (found.status, says in found.data.decode()), path


def test_a_campaign_is_text_and_no_markup(address: str) -> None:
    found = get(f"{address}/timing?campaign=%3Cscript%3Ealert(1)%3C/script%3E").data.decode()

    assert "<script>alert" not in found
    assert "&lt;script&gt;alert(1)" in found


def test_other_hosts_and_sites_are_refused(address: str) -> None:
    for headers in (
        {"Host": "airside.example"},
        {"Origin": "https://airside.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert 403 == get(f"{address}/timing", **headers).status
    assert 403 == get(f"{address}/timing/arms.json", Host="airside.example").status
