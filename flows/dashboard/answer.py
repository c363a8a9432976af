"""Ask ClickHouse what a panel shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.reader import read_rows
from flows.dashboard.queries import CAMPAIGNS, ROWS_MAX, VIEWS, Form, View
from flows.dashboard.scope import Scope
from flows.journey.increment import increments
from flows.process import ask as process
from flows.process import queries
from flows.quality import command as quality
from flows.query import increment
from flows.query.compile import Question, compile_question
from flows.query.show import progress, shown
from flows.settings import Settings
from flows.timing import show_clusters as rhythms
from schemas.dashboard import Panel
from schemas.errors import ConfigError
from schemas.metrics import Catalog, load_catalog
from schemas.process import load_process

Lines = Sequence[Sequence[Any]]

_TRIES: Final = 1  # a page is asked for again sooner than a worker is started again
_ALL_CAMPAIGNS: Final = "of all campaigns"
_PROCESS_FORMS: Final[Mapping[str, Form]] = {
    "passes": "count",
    "journeys": "count",
    "acts": "count",
    "share": "percent",
    "p50_s": "seconds",
    "p95_s": "seconds",
    "total_s": "seconds",
    "first_at": "time",
    "last_at": "time",
}
_QUALITY_FORMS: Final[Mapping[str, Form]] = {
    "checked": "count",
    "failed": "count",
    "warn": "count",
    "error": "count",
    "minute": "time",
    "expected": "number",
    "observed": "number",
    "score": "number",
}


class Answer(NamedTuple):
    """Lines of a panel.

    Shapes: `columns` are the form of each column by its name, in the order of each line. `note`
    says in a few words what else there is to know, or nothing.
    """

    columns: Mapping[str, Form]
    lines: Lines
    note: str = ""

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        place = list(self.columns).index(name)
        return [line[place] for line in self.lines]


class Asker:
    """Answers panels from one database.

    State: a client that threads share, since it keeps no session.
    Errors: as `connectors.clickhouse.reader.read_rows`; ConfigError where the one who looks may
    not see lines about few people and the question does not count them.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._catalog: Catalog = load_catalog()
        self._process = load_process(settings.process)
        self._sources: dict[str, Callable[[Scope], Answer]] = {
            "increment": self._increment,
            "objectives": self._objectives,
            "rhythms": self._rhythms,
            "clusters": self._clusters,
            "scores": self._scores,
            "anomalies": self._anomalies,
            **{name: self._view_of(view) for name, view in VIEWS.items()},
            **{name: self._process_of(name) for name in ("variants", "dfg", "bottlenecks")},
            "conformance": self._process_of("conformance"),
        }

    @property
    def sources(self) -> frozenset[str]:
        """The names of questions that panels may ask."""
        return frozenset(self._sources)

    def answer(self, panel: Panel, scope: Scope) -> Answer:
        """The lines of a panel."""
        return self._metrics(panel, scope) if panel.metrics else self._sources[panel.query](scope)

    def campaigns(self, scope: Scope) -> list[str]:
        """The campaigns of most journeys that started in the span."""
        span = {"since_s": scope.since_s, "until_s": scope.until_s, "k": scope.k}
        return sorted(name for name, _ in self._read(CAMPAIGNS, span, "journeys"))

    def _read(self, sql: str, values: Mapping[str, Any], name: str) -> list[tuple[Any, ...]]:
        return read_rows(self._client, sql, values, name=name, tries=_TRIES)

    def _metrics(self, panel: Panel, scope: Scope) -> Answer:
        money = self._settings.money
        dimensions = [set(self._catalog.dimensions_of(name)) for name in panel.metrics]
        filtered = bool(scope.campaign) and all("campaign" in each for each in dimensions)
        question = Question(
            metrics=panel.metrics,
            since_s=scope.since_s,
            until_s=scope.until_s,
            by=panel.by,
            where={"campaign": scope.campaign} if filtered else {},
            grain=scope.grain if panel.over_time else "",
            currency=money.currency,
            costs=money.costs,
            k=scope.k,
        )
        asked = compile_question(self._catalog, question)
        lines = self._read(asked.sql, asked.parameters, "metrics")
        columns: dict[str, Form] = dict.fromkeys(asked.keys, "text")
        if panel.over_time:
            columns["t"] = "time"
        columns |= {name: self._catalog.by_name[name].format for name in asked.metrics}
        notes = [
            *([money.currency] if "money" in columns.values() else []),
            *([_ALL_CAMPAIGNS] if scope.campaign and not filtered else []),
        ]
        return Answer(columns, lines, ", ".join(notes))

    def _view_of(self, view: View) -> Callable[[Scope], Answer]:
        def ask(scope: Scope) -> Answer:
            if scope.k and view.of_events:
                raise ConfigError(
                    do="query",
                    kind="panel",
                    found="no count of people",
                    expected="a role that may see small groups",
                )
            values = {
                "since_s": scope.since_s,
                "until_s": scope.until_s,
                "step_s": scope.step_s,
                "campaign": scope.campaign,
                "k": scope.k,
                "rows_max": ROWS_MAX,
            }
            used = {name: value for name, value in values.items() if "{" + name + ":" in view.sql}
            lines = self._read(view.sql, used, "dashboard")
            notes = [
                *([] if view.of_campaign or not scope.campaign else [_ALL_CAMPAIGNS]),
                *([view.note] if view.note else []),
                *([f"the first {ROWS_MAX:,} lines"] if len(lines) == ROWS_MAX else []),
            ]
            return Answer(view.columns, lines, ", ".join(notes))

        return ask

    def _process_of(self, name: str) -> Callable[[Scope], Answer]:
        view = queries.VIEWS[name]
        columns: dict[str, Form] = {
            column: _PROCESS_FORMS.get(column, "text") for column in view.columns
        }

        def ask(scope: Scope) -> Answer:
            asked = queries.Scope(
                since_s=scope.since_s,
                until_s=scope.until_s,
                now_ms=scope.now_ms,
                timeout_ms=int(self._settings.journey.timeout_s * 1_000),
                campaign=scope.campaign,
                k=scope.k,
                rows_max=ROWS_MAX,
            )
            return Answer(columns, process.answer(self._client, view, self._process, asked))

        return ask

    def _increment(self, scope: Scope) -> Answer:
        currency = self._settings.money.currency
        asked = {
            "since_s": scope.since_s,
            "until_s": scope.until_s,
            "campaign": scope.campaign,
            "currency": currency,
        }
        people = increment.read_people(self._client, asked)
        told, held_out = increment.groups_of(people)
        columns: dict[str, Form] = {
            "figure": "text",
            "told": "number",
            "held_out": "number",
            "difference": "number",
            "low": "number",
            "high": "number",
            "state": "text",
            "people_told": "count",
            "people_held_out": "count",
        }
        if min(told, held_out) < max(scope.k, 1):
            return Answer(columns, [], "one of the two groups is empty, or too small to be shown")
        lines = [
            (*one, told, held_out) for one in increments(people, increment.plans_of(self._settings))
        ]
        return Answer(columns, lines, f"for 1,000 notifications, money in {currency}")

    def _objectives(self, scope: Scope) -> Answer:
        goals = [(goal, result) for goal in self._catalog.objectives for result in goal.key_results]
        names = tuple(sorted({result.metric for _, result in goals}))
        money = self._settings.money
        question = Question(
            metrics=names,
            since_s=scope.since_s,
            until_s=scope.until_s,
            currency=money.currency,
            costs=money.costs,
            k=scope.k,
        )
        asked = compile_question(self._catalog, question)
        found = self._read(asked.sql, asked.parameters, "metrics")
        values = dict(zip(asked.metrics, found[0] if found else (None,) * len(names), strict=True))
        columns: dict[str, Form] = {
            "objective": "text",
            "owner": "text",
            "metric": "text",
            "baseline": "text",
            "now": "text",
            "target": "text",
            "done": "percent",
            "due": "text",
        }
        today = datetime.fromtimestamp(scope.now_ms / 1_000, UTC).date()
        lines = [
            (
                goal.objective,
                goal.owner,
                result.metric,
                *self._as_metric(
                    result.metric, result.baseline, values[result.metric], result.target
                ),
                progress(result.baseline, result.target, values[result.metric]),
                f"{result.due:%Y-%m-%d}{' (over)' if result.due < today else ''}",
            )
            for goal, result in goals
        ]
        return Answer(columns, lines, _ALL_CAMPAIGNS if scope.campaign else "")

    def _as_metric(self, name: str, *values: float | None) -> list[str | None]:
        metric = self._catalog.by_name[name]
        return [None if value is None else shown(metric, value) for value in values]

    def _shown(self, scope: Scope) -> list[rhythms.Shown]:
        return rhythms.put_together(
            rhythms.of_living_lanes(rhythms.read_clusters(self._client, k=scope.k))
        )

    def _rhythms(self, scope: Scope) -> Answer:
        columns: dict[str, Form] = {"cluster": "text", "hour": "count", "activity": "percent"}
        lines = [
            (f"{number}: {rhythms.spans(one.peak_hours)}", hour, share)
            for number, one in enumerate(self._shown(scope), 1)
            for hour, share in enumerate(one.hours)
        ]
        return Answer(columns, lines, "the newest; of all campaigns")

    def _clusters(self, scope: Scope) -> Answer:
        columns: dict[str, Form] = {
            "cluster": "text",
            "people": "count",
            "share": "percent",
            "sends": "count",
            "responses": "count",
            "rate": "percent",
            "apart": "number",
            "as_of": "time",
        }
        shown = self._shown(scope)
        everybody = sum(one.people for one in shown)
        lines = [
            (
                f"{number}: {rhythms.spans(one.peak_hours)}",
                one.people,
                one.people / everybody,
                one.sends,
                one.responses,
                one.response_rate,
                one.apart,
                datetime.fromtimestamp(one.at_ms / 1_000, UTC),
            )
            for number, one in enumerate(shown, 1)
        ]
        return Answer(columns, lines, "the newest; of all campaigns")

    def _scores(self, scope: Scope) -> Answer:
        lines = quality.scores(self._client, scope.since_s, scope.until_s)
        columns = {name: _QUALITY_FORMS.get(name, "text") for name in quality.NAMES}
        return Answer(columns, lines, _ALL_CAMPAIGNS if scope.campaign else "")

    def _anomalies(self, scope: Scope) -> Answer:
        lines = quality.anomalies(self._client, scope.since_s, scope.until_s)
        columns = {name: _QUALITY_FORMS.get(name, "text") for name in quality.ANOMALY_NAMES}
        return Answer(columns, lines, _ALL_CAMPAIGNS if scope.campaign else "")
