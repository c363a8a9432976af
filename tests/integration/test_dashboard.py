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
from flows.query.ask import answer as ask
from flows.query.compile import Question, compile_question
from flows.settings import read_settings
from schemas.dashboard import Panel, load_dashboard
from schemas.errors import ConfigError, TransientError
from schemas.metrics import load_catalog
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


Decided = tuple[dict[str, Any], int]
STEP_S = 10_800  # of fourteen days


def settled(told: Told) -> list[Decided]:
    """Decisions up to the last one of their campaign that is known to be silent, and answers."""
    answered = {row["decision_id"]: row["responded"] for row in told.rows["decision_outcomes"]}
    over: dict[str, datetime] = {}
    for row in told.rows["decisions"]:
        if answered.get(row["decision_id"]) == 0:
            over[row["campaign"]] = max(over.get(row["campaign"], SINCE), row["chosen_at"])
    return [
        (row, answered[row["decision_id"]])
        for row in told.rows["decisions"]
        if row["decision_id"] in answered and row["chosen_at"] <= over[row["campaign"]]
    ]


def step_of(row: dict[str, Any]) -> int:
    return int(row["requested_at"].timestamp()) // STEP_S


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

    assert ({"events", "classes", "latency"} if k else set()) == refused


def test_the_verdict_is_the_newest(asker: Asker, told: Told) -> None:
    (line,) = lines(asker.answer(panel("verdict"), SCOPE._replace(until_s=2**32 - 1)))
    finding = told.result.finding

    assert (finding.state.value, pytest.approx(finding.lift)) == (line["state"], line["lift"])
    assert (pytest.approx(finding.low), pytest.approx(finding.high)) == (line["low"], line["high"])


def test_lift_over_time_has_the_last_of_each_step(asker: Asker, told: Told) -> None:
    found = lines(asker.answer(panel("lift"), SCOPE._replace(until_s=2**32 - 1, since_s=1)))
    days: dict[int, dict[str, Any]] = {}
    for row in told.rows["experiment_results"]:
        days[int(row["at"].timestamp()) // 86_400] = row

    assert [row["lift"] for row in days.values()] == pytest.approx([line["lift"] for line in found])
    assert [row["state"] for row in days.values()] == [line["state"] for line in found]


def test_a_lift_needs_sends_of_both_arms_and_the_newest_run(asker: Asker, told: Told) -> None:
    """An experiment that begins anew is not one line with the one before."""
    later = UNTIL + timedelta(days=1)
    row = told.rows["experiment_results"][-1] | {"at": later, "holdout_sends": 0, "lift": 1.0}
    plan = told.rows["experiments"][0] | {"started_at": later}
    before = asker.answer(panel("verdict"), SCOPE).lines
    write(asker._client, told._replace(rows={"experiment_results": [row], "experiments": [plan]}))
    ever = SCOPE._replace(until_s=2**32 - 1, since_s=1)

    assert before == asker.answer(panel("verdict"), SCOPE).lines  # a span of before has its own
    assert 1 == len(before)
    assert [None] == [line["lift"] for line in lines(asker.answer(panel("lift"), ever))]
    assert [(None, None)] == [
        (line["lift"], line["holdout_rate"]) for line in lines(asker.answer(panel("verdict"), ever))
    ]


def test_rates_of_arms_are_those_of_what_was_written(asker: Asker, told: Told) -> None:
    """Of the newest decisions only responses are known: they are left out."""
    known = settled(told)
    sends = Counter((step_of(row), row["arm"]) for row, _ in known)
    answers = Counter((step_of(row), row["arm"]) for row, answer in known if answer)
    found = lines(asker.answer(panel("arms"), SCOPE))
    keys = [(int(line["t"].timestamp()) // STEP_S, line["arm"]) for line in found]

    assert sends == dict(zip(keys, [line["decisions"] for line in found], strict=True))
    assert [answers[key] for key in keys] == [line["answers"] for line in found]
    rates = [answers[key] / sends[key] for key in keys]
    assert rates == pytest.approx([line["rate"] for line in found])
    assert len(known) < len(told.rows["decision_outcomes"])


def test_hours_of_the_holdout_have_the_interval_of_wilson(asker: Asker, told: Told) -> None:
    drawn = defaultdict(list)
    for row, answer in settled(told):
        if row["arm"] == "holdout" and row["propensity"] < 1:
            drawn[row["chosen_slot"] % 24].append(answer)
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
    bins = defaultdict(list)
    models = defaultdict(list)
    for row, answer in settled(told):
        if row["arm"] == "optimised":
            bins[int(row["score"] * 20)].append((row["score"], answer))
            likely = row["score"] if answer else 1 - row["score"]
            models[row["campaign"]].append((row["score"], answer, -np.log(max(likely, 1e-6))))
    found = lines(asker.answer(panel("calibration"), SCOPE))

    assert [len(bins[each]) for each in sorted(bins)] == [line["decisions"] for line in found]
    means = [tuple(np.mean(bins[each], axis=0)) for each in sorted(bins)]
    assert np.allclose(means, [(line["expected"], line["rate"]) for line in found])
    found = lines(asker.answer(panel("models"), SCOPE))
    means = [tuple(np.mean(models[each], axis=0)) for each in sorted(models)]
    assert np.allclose(
        means, [(line["expected"], line["rate"], line["log_loss"]) for line in found]
    )


def test_parts_of_the_week_have_their_names(asker: Asker, told: Told) -> None:
    found = lines(asker.answer(panel("slots"), SCOPE._replace(until_s=2**32 - 1)))
    slots = told.result.slot_fields()

    assert [slot["lift"] for slot in slots] == pytest.approx([line["lift"] for line in found])
    names = {slot["bin"]: line["part"] for slot, line in zip(slots, found, strict=True)}
    assert ("workdays 06-09", "weekends 18-21") == (names[2], names[14])


def test_one_campaign_has_its_own_decisions(asker: Asker, told: Told) -> None:
    wanted = Counter(
        row["chosen_slot"]
        for row in told.rows["decisions"]
        if (row["campaign"], row["arm"]) == ("spring", "optimised") and row["requested_at"] < UNTIL
    )
    found = lines(asker.answer(panel("hours"), SCOPE._replace(campaign="spring")))

    assert wanted == {line["day"] * 24 + line["hour"]: line["decisions"] for line in found}


HIDDEN: dict[str, tuple[bool, Any]] = {
    "arms": (True, lambda row: (step_of(row), row["arm"])),
    "hours": (False, lambda row: row["arm"] == "optimised" and row["chosen_slot"]),
    "holdout": (
        True,
        lambda row: row["arm"] == "holdout" and row["propensity"] < 1 and row["chosen_slot"] % 24,
    ),
    "calibration": (True, lambda row: row["arm"] == "optimised" and int(row["score"] * 20)),
    "reasons": (False, lambda row: (step_of(row), row["arm"], row["reason"])),
    "models": (True, lambda row: row["arm"] == "optimised" and row["campaign"]),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_small_groups_are_hidden_from_roles_that_may_not_see_them(
    asker: Asker, told: Told, name: str
) -> None:
    of_known, key_of = HIDDEN[name]
    rows = [row for row, _ in settled(told)] if of_known else told.rows["decisions"]
    people = defaultdict(set)
    for row in rows:
        key = key_of(row)
        if key is not False:
            people[key].add(row["subject"])
    least = int(np.median([len(names) for names in people.values()])) + 1
    many = [key for key, names in people.items() if len(names) >= least]

    assert len(many) < len(people)
    assert len(people) == len(asker.answer(panel(name), SCOPE).lines)
    assert len(many) == len(asker.answer(panel(name), SCOPE._replace(k=least)).lines)


@pytest.mark.parametrize("name", ["verdict", "lift", "slots"])
def test_verdicts_on_few_people_are_hidden_and_no_older_one_is_shown(
    asker: Asker, told: Told, name: str
) -> None:
    row = told.rows["experiment_results"][-1] | {"at": UNTIL + timedelta(hours=1)}
    few = row | {"holdout_subjects": 5}
    write(asker._client, told._replace(rows={"experiment_results": [few]}))
    scope = SCOPE._replace(since_s=int(UNTIL.timestamp()) + 60, until_s=2**32 - 1, k=10)

    assert [] == asker.answer(panel(name), scope).lines
    assert [] != asker.answer(panel(name), scope._replace(k=0)).lines


def test_questions_about_events_count_their_people_or_are_refused(asker: Asker) -> None:
    """Each view names k, or is about books and rules alone."""
    without = {name for name, view in VIEWS.items() if "{k:" not in view.sql}

    assert {"doors", "latency", "failures"} == without
    for name in ("events", "classes", "latency"):
        with pytest.raises(ConfigError, match="no count of people"):
            asker.answer(panel(name, "traffic"), SCOPE._replace(k=10))


HIST = [0] * 32


def traffic() -> dict[str, list[dict[str, Any]]]:
    """Events, refusals, books and checks of two hours, with a name that is markup."""
    begin = SINCE + timedelta(minutes=50)
    event = {"event_type": "ntf.request.created.v1", "class": "PII", "currency": "", "ver": 1}
    hist = [[*HIST[:11], n, *HIST[12:]] for n in (10, 30)]  # all in [1.024, 2.048) s
    refusal = {"topic": "ntf.requests.v1", "part": 0, "door": "quarantined", "ver": 1}
    refusal |= {"code": "T301", "pointer": "/amount", "source": "/shop", "reason": "a number"}
    journey = {"subject": "usr_1", "started_at": begin, "n": 1, "ver": 2}
    return {
        "rollup_1m_lanes": [
            event
            | {"w": begin + timedelta(minutes=20 * place), "campaign": campaign, "lane": 0}
            | {"n": sum(hist[place]), "latency_hist": hist[place], "recorded_at": begin}
            for place, campaign in ((0, "spring"), (1, "winback"))
        ],
        "quarantine": [
            refusal | {"off": n, "recorded_at": begin + timedelta(minutes=n), "ver": ver}
            for n in range(3)
            for ver in (1, 2)
        ],
        "fates": [
            {"topic": "t", "part": 0, "run": 0, "door": door, "code": "", "source": "", "lane": 0}
            | {"n": n, "ver": 1}
            for door, n in (("routed", 40), ("quarantined", 3), ("dropped", 2), ("late", 5))
        ],
        "quality": [
            {"w": begin, "dataset": "t", "producer": "/shop", "rule": rule, "lane": 0, "ver": 1}
            | {"dimension": "validity", "checked": 10, "failed": failed, "severity": "ok"}
            for rule, failed in (("one", 1), ("two", 4))
        ],
        "journeys": [
            journey
            | {"journey": f"jrn-{n}", "campaign": campaign, "subject": f"usr_{n}"}
            | {"expires_at": datetime(2099, 1, 1, tzinfo=UTC).date()}
            for n, campaign in enumerate(("spring", "spring", "</script><b>sale</b>"))
        ],
    }


@pytest.fixture
def busy(asker: Asker, told: Told) -> Asker:
    """With everything written again, as after a crash."""
    for _ in range(2):
        write(asker._client, told._replace(rows=traffic()))
    return asker


def test_running_sums_reach_back_from_the_step_that_a_span_begins_in(
    asker: Asker, told: Told
) -> None:
    """One journey an hour; a month is longer than the window, so its line has the month."""
    start = datetime(2026, 10, 20, tzinfo=UTC)
    sent = [
        {"journey": f"jrn-{n}", "subject": f"usr_{n}", "campaign": "spring", "n": 1, "ver": 2}
        | {"started_at": start + timedelta(hours=n), "acts": ["delivery.sent"]}
        | {"at": [start + timedelta(hours=n)]}
        | {"expires_at": datetime(2099, 1, 1, tzinfo=UTC).date()}
        for n in range(30 * 24)
    ]
    write(asker._client, told._replace(rows={"journeys": sent}))
    since = datetime(2026, 11, 10, 10, 30, tzinfo=UTC)
    question = Question(
        metrics=("sent_7d",),
        since_s=int(since.timestamp()),
        until_s=int(datetime(2026, 11, 12, tzinfo=UTC).timestamp()),
        grain="day",
    )
    asked = compile_question(load_catalog(), question)
    found = ask(asker._client, asked)

    assert [7 * 24, 7 * 24] == [line[1] for line in found]
    asked = compile_question(load_catalog(), question._replace(grain="month"))
    assert [11 * 24] == [line[1] for line in ask(asker._client, asked)]


@pytest.mark.parametrize("minutes", [0, 50, 55])
def test_steps_of_a_metric_add_up_to_it_from_wherever_the_span_begins(
    busy: Asker, minutes: int
) -> None:
    scope = SCOPE._replace(since_s=SCOPE.since_s + 60 * minutes)
    steps = lines(busy.answer(panel("events", "traffic"), scope))
    (whole,) = lines(busy.answer(panel("classes", "traffic"), scope))

    assert whole["events"] == sum(line["events"] for line in steps) == (40 if minutes < 55 else 30)


def test_one_campaign_has_its_own_events_and_journeys(busy: Asker) -> None:
    scope = SCOPE._replace(campaign="winback")
    assert [30] == [
        line["events"] for line in lines(busy.answer(panel("classes", "traffic"), scope))
    ]
    (line,) = lines(busy.answer(panel("totals", "campaigns"), scope._replace(campaign="spring")))
    assert 2 == line["journeys"]
    assert ["</script><b>sale</b>", "spring"] == busy.campaigns(SCOPE)
    assert ["spring"] == busy.campaigns(SCOPE._replace(k=2))


def test_latency_is_read_off_its_bucket(busy: Asker) -> None:
    found = lines(busy.answer(panel("latency", "traffic"), SCOPE))

    assert [40] == [line["events"] for line in found]
    assert [1.024 * (1 + q) for q in (0.5, 0.95, 0.99)] == pytest.approx(
        [found[0][name] for name in ("p50", "p95", "p99")]
    )


def test_refusals_books_and_checks_are_told_once(busy: Asker) -> None:
    (fault,) = lines(busy.answer(panel("faults", "traffic"), SCOPE))
    assert (3, "/amount", "/shop") == (fault["messages"], fault["pointer"], fault["source"])
    assert SINCE + timedelta(minutes=52) == fault["last_at"].replace(tzinfo=UTC)
    assert 3 == sum(
        line["messages"] for line in lines(busy.answer(panel("refused", "traffic"), SCOPE))
    )
    for name in ("faults", "refused"):
        assert [] == busy.answer(panel(name, "traffic"), SCOPE._replace(k=4)).lines
    (books,) = lines(busy.answer(panel("doors", "traffic"), SCOPE))
    assert [50, 40, 3, 2, 5] == list(books.values())[:5]
    assert books["not_routed"] == pytest.approx(0.2)
    (checks,) = lines(busy.answer(panel("failures", "quality"), SCOPE))
    assert (20, pytest.approx(0.25)) == (checks["checks"], checks["failed"])


def test_nothing_is_said_to_be_earned_where_nobody_is_held_out(busy: Asker) -> None:
    found = busy.answer(panel("earned", "campaigns"), SCOPE)

    assert ([], True) == (found.lines, "is empty" in found.note)


def test_objectives_are_written_as_their_metrics_are(busy: Asker) -> None:
    found = {
        line["metric"]: line for line in lines(busy.answer(panel("objectives", "campaigns"), SCOPE))
    }

    assert ("2.00 %", "1.00 %") == (
        found["unsubscribe_rate"]["baseline"],
        found["unsubscribe_rate"]["target"],
    )


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

    assert 1 == away.asked
    assert all(one.answer is None and "could not read" in one.fault for one in shown)
    with pytest.raises(TransientError):
        Asker(client, _settings(clickhouse_tables)).campaigns(SCOPE)


def test_a_page_that_takes_long_asks_no_further_panel(asker: Asker) -> None:
    ticks = iter([0.0, 1.0, 19.0, *[21.0] * 20])
    page = load_dashboard().by_name["timing"]
    shown = ask_all(asker, page, SCOPE, clock=lambda: next(ticks))

    assert [True, True] == [one.answer is not None for one in shown[:2]]
    assert all("not asked" in one.fault for one in shown[2:])


@pytest.fixture
def address(clickhouse_tables: ClickHouseAddress, told: Told, tmp_path: Any) -> Iterator[str]:
    """A served dashboard, with what was written behind it."""
    with connect(clickhouse_tables) as client:
        write(client, told)
        write(client, told._replace(rows=traffic()))
    command = [sys.executable, "-m", "flows", "dashboard", "--port", "0"]
    places = {
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
    assert len(settled(told)) == sum(
        line["decisions"] for line in orjson.loads(found.data)["lines"]
    )
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
        (f"/timing?refresh={'0' * 9}{'9' * 5_000}", 400, "no number of seconds"),
        ("/timing/arms.csv?since=never", 400, "neither a span nor a time"),
    ):
        found = get(address + path)
        assert (status, True) == (found.status, says in found.data.decode()), path


def test_a_campaign_is_text_and_no_markup(address: str) -> None:
    found = get(f"{address}/timing?campaign=%3Cscript%3Ealert(1)%3C/script%3E").data.decode()

    assert "<script>alert" not in found
    assert "&lt;script&gt;alert(1)" in found


def test_names_from_the_database_are_text_and_no_markup(address: str) -> None:
    found = get(f"{address}/campaigns?since={SINCE:%Y-%m-%d}&until={UNTIL:%Y-%m-%d}").data.decode()

    assert "<b>sale" not in found
    assert "&lt;b&gt;sale" in found
    figures = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', found)
    assert any("sale" in figure for figure in figures)


def test_other_hosts_and_sites_are_refused(address: str) -> None:
    for headers in (
        {"Host": "airside.example"},
        {"Origin": "https://airside.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert 403 == get(f"{address}/timing", **headers).status
    assert 403 == get(f"{address}/timing/arms.json", Host="airside.example").status
