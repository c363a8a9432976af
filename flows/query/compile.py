"""Compile metrics to ClickHouse SQL: our own fragments and parameters, never a word of the asker.

Each model that a question needs becomes one aggregated subquery; they are joined on what was asked
for (`by`, `grain`), and ratios, arithmetic and running sums are made of their columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schemas.errors import ConfigError
from schemas.metrics import (
    JOURNEYS,
    Catalog,
    Conversion,
    Cumulative,
    Derived,
    Metric,
    Model,
    Ratio,
    Simple,
    parse_expression,
    parts_of,
    unknown,
    write_expression,
)
from schemas.policy import seconds_of

GRAINS: Final = {
    "minute": "toStartOfMinute(%s)",
    "hour": "toStartOfHour(%s)",
    "day": "toDateTime(toStartOfDay(%s, 'UTC'), 'UTC')",
    "week": "toDateTime(toStartOfWeek(%s, 1, 'UTC'), 'UTC')",
    "month": "toDateTime(toStartOfMonth(%s, 'UTC'), 'UTC')",
}
"""Spans of time that values can be given for; weeks start on Monday."""

_SINCE: Final = "toDateTime({since_s:UInt32}, 'UTC')"

ROWS_MAX: Final = 100_000


class Question(NamedTuple):
    """What is asked.

    Shapes: `where` holds values by dimension; `grain` is empty or one of `GRAINS`; `k` is the
    least number of people that a line may be about, 0 without a bound. `costs` are by channel.
    Units: `since_s` and `until_s` are seconds since 1970 UTC, the end not included; costs in
    minor units of the currency for one message.
    """

    metrics: tuple[str, ...]
    since_s: int
    until_s: int
    by: tuple[str, ...] = ()
    where: Mapping[str, str] = {}
    grain: str = ""
    currency: str = ""
    costs: Mapping[str, float] = {}
    k: int = 0


class Query(NamedTuple):
    """SQL with its parameters. Shapes: `keys` and then `metrics` are the columns of the result."""

    sql: str
    parameters: dict[str, Any]
    keys: tuple[str, ...]
    metrics: tuple[str, ...]


def compile_question(catalog: Catalog, question: Question) -> Query:
    """Write one question as SQL.

    Errors: ConfigError for a name that is not there, with the nearest ones; for a metric that
    needs a grain or a currency; for one whose lines cannot be counted in people where they must.
    """
    asked = [catalog.metric(name) for name in question.metrics]
    leaves = _leaves(catalog, asked)
    models = _models_of(catalog, leaves)
    _check(catalog, question, leaves, models)
    keys = (*(["t"] if question.grain else []), *question.by)
    reach_s = _reach(catalog, asked, question.since_s)
    by_steps = bool(question.grain) and 0 < reach_s < question.since_s
    parts = {
        name: _subquery(catalog, name, of_model, question, keys, by_steps=by_steps)
        for name, of_model in models.items()
    }
    names = tuple(metric.name for metric in asked)
    sql = " ".join(
        (
            "WITH",
            ", ".join(f"{_table(name)} AS ({part})" for name, part in parts.items()),
            _outer(catalog, asked, question, keys, tuple(parts)),
        )
    )
    return Query(sql, _parameters(question, reach_s), keys, names)


def _leaves(catalog: Catalog, metrics: Iterable[Metric]) -> dict[str, Simple | Conversion]:
    found: dict[str, Simple | Conversion] = {}
    for metric in metrics:
        if isinstance(metric, Simple | Conversion):
            found[metric.name] = metric
        else:
            found |= _leaves(catalog, (catalog.by_name[name] for name in parts_of(metric)))
    return found


def _model_of(metric: Simple | Conversion) -> str:
    return metric.model if isinstance(metric, Simple) else JOURNEYS


def _models_of(
    catalog: Catalog, leaves: Mapping[str, Simple | Conversion]
) -> dict[str, list[Simple | Conversion]]:
    found: dict[str, list[Simple | Conversion]] = {}
    for metric in leaves.values():
        found.setdefault(_model_of(metric), []).append(metric)
    return {name: found[name] for name in catalog.models if name in found}


def _check(
    catalog: Catalog,
    question: Question,
    leaves: Mapping[str, Simple | Conversion],
    models: Mapping[str, Sequence[Simple | Conversion]],
) -> None:
    shared = set.intersection(*(set(catalog.models[name].dimensions) for name in models))
    for name in (*question.by, *question.where):
        if name not in shared:
            raise unknown("dimension of these metrics", name, shared)
    if question.grain and question.grain not in GRAINS:
        raise unknown("grain", question.grain, GRAINS)
    for leaf in leaves.values():
        money = isinstance(leaf, Simple) and catalog.models[leaf.model].measures[leaf.measure].money
        if money and not question.currency:
            raise _needs(leaf.name, "money in several currencies", "--currency, for one EUR")
    for name in models:
        if question.k and not catalog.models[name].people:
            raise _needs(
                next(leaf.name for leaf in models[name]),
                "no count of people",
                "a role that may see small groups, or a metric of journeys",
            )


def _needs(name: str, found: str, expected: str) -> ConfigError:
    return ConfigError(do="query", kind="metric", name=name, found=found, expected=expected)


def _reach(catalog: Catalog, asked: Iterable[Metric], since_s: int) -> int:
    """From when on data are read: running sums reach back before the time asked for."""
    reach_s = since_s
    for metric in asked:
        if isinstance(metric, Cumulative):
            back_s = seconds_of(metric.window) if metric.window else since_s
            reach_s = min(reach_s, since_s - back_s)
        elif not isinstance(metric, Simple | Conversion):
            parts = [catalog.by_name[name] for name in parts_of(metric)]
            reach_s = min(reach_s, _reach(catalog, parts, since_s))
    return max(reach_s, 0)


def _table(model: str) -> str:
    return "of_" + model


def _subquery(
    catalog: Catalog,
    name: str,
    metrics: Sequence[Simple | Conversion],
    question: Question,
    keys: Sequence[str],
    *,
    by_steps: bool,
) -> str:
    model = catalog.models[name]
    columns = []
    if question.grain:
        columns.append((GRAINS[question.grain] % model.time) + " AS t")
    columns += [f"toString({model.dimensions[name]}) AS {name}" for name in question.by]
    columns += [f"{_measure(model, metric)} AS {_column(metric.name)}" for metric in metrics]
    if question.k:
        columns.append(_people_of(model, question.k) + " AS people")
    reach = "fromUnixTimestamp({reach_s:UInt32})"
    if by_steps:  # a sum over what is before a line reaches back from its step
        reach = f"{GRAINS[question.grain] % _SINCE} - toIntervalSecond({{back_s:UInt32}})"
    tests = [
        model.time + " >= " + reach,
        model.time + " < fromUnixTimestamp({until_s:UInt32})",
    ]
    tests += [
        "toString(" + model.dimensions[name] + ") = {" + _filter(place) + ":String}"
        for place, name in enumerate(question.where)
    ]
    grouped = ["GROUP BY", ", ".join(keys)] if keys else []
    return " ".join(
        ("SELECT", ", ".join(columns), "FROM", model.table, "WHERE", " AND ".join(tests), *grouped)
    )


def _people_of(model: Model, k: int) -> str:
    """How many people a line is about, counted no further than it has to be."""
    return f"length(groupUniqArrayIf({k:d})({model.people}, {model.people} != ''))"


def _filter(place: int) -> str:
    return "filter_" + str(place)


def _column(metric: str) -> str:
    return "m_" + metric


def _measure(model: Model, metric: Simple | Conversion) -> str:
    if isinstance(metric, Simple):
        return "(" + model.measures[metric.measure].sql + ")"
    for one in model.spans:
        if (one.base, one.conversion) == (metric.base, metric.conversion):
            span_ms = str(1_000 * seconds_of(metric.window))
            return f"(countIf({one.ms} <= {span_ms}) / nullIf(countIf({one.has}), 0))"
    base = "'" + metric.base + "'"
    other = "'" + metric.conversion + "'"
    span = str(seconds_of(metric.window))
    # The base act of a journey is its first; any later act within the span counts.
    converted = (
        f"countIf(has(acts, {base}) AND arrayExists((act, act_at) -> act = {other}"
        f" AND act_at >= at[indexOf(acts, {base})]"
        f" AND act_at <= at[indexOf(acts, {base})] + INTERVAL {span} SECOND, acts, at))"
    )
    return f"({converted} / nullIf(countIf(has(acts, {base})), 0))"


def _outer(
    catalog: Catalog,
    asked: Sequence[Metric],
    question: Question,
    keys: Sequence[str],
    models: Sequence[str],
) -> str:
    columns = [*keys]
    columns += [_value(catalog, metric, question) + " AS " + metric.name for metric in asked]
    source = [_table(models[0])]
    for name in models[1:]:
        if keys:
            source.append(f"FULL OUTER JOIN {_table(name)} USING ({', '.join(keys)})")
        else:
            source.append(f"CROSS JOIN {_table(name)}")
    inner = " ".join(("SELECT", ", ".join(columns + _people(question, models)), "FROM", *source))
    outer = ["SELECT", ", ".join((*keys, *(metric.name for metric in asked)))]
    outer += ["FROM (" + inner + ")"]
    # The step that the span begins in is told of, though not from its start.
    first = GRAINS[question.grain] % _SINCE if question.grain else ""
    tests = ["t >= " + first] if first else []
    if question.k:
        tests.append("least_people >= {k:UInt32}")
    outer += ["WHERE " + " AND ".join(tests)] if tests else []
    outer += ["ORDER BY " + ", ".join(keys)] if keys else []
    outer += ["LIMIT {rows_max:UInt32}", "SETTINGS do_not_merge_across_partitions_select_final = 1"]
    return " ".join(outer)


def _people(question: Question, models: Sequence[str]) -> list[str]:
    """The smallest group that a line is about: one for each model that it is made of."""
    if not question.k:
        return []
    counts = ", ".join(_table(name) + ".people" for name in models)
    return ["arrayMin(arrayFilter(n -> n > 0, [" + counts + "])) AS least_people"]


def _value(catalog: Catalog, metric: Metric, question: Question) -> str:
    if isinstance(metric, Simple | Conversion):
        return _column(metric.name)
    if isinstance(metric, Ratio):
        above, below = (_value(catalog, catalog.by_name[n], question) for n in parts_of(metric))
        return f"({above} / nullIf({below}, 0))"
    if isinstance(metric, Derived):
        parts = {n: _value(catalog, catalog.by_name[n], question) for n in parts_of(metric)}
        return write_expression(parse_expression(metric.expr), parts)
    return _running(catalog, metric, question)


def _running(catalog: Catalog, metric: Cumulative, question: Question) -> str:
    if not question.grain:
        raise _needs(metric.name, "no grain", "--grain hour, day, week or month")
    value = _value(catalog, catalog.by_name[metric.metric], question)
    shares = "PARTITION BY " + ", ".join(question.by) if question.by else ""
    frame = "ROWS UNBOUNDED PRECEDING"
    if metric.window:
        span = str(seconds_of(metric.window) - 1)
        frame = f"RANGE BETWEEN {span} PRECEDING AND CURRENT ROW"
    return f"sum({value}) OVER ({shares} ORDER BY t {frame})"


def _parameters(question: Question, reach_s: int) -> dict[str, Any]:
    channels = sorted(question.costs)
    return {
        "since_s": question.since_s,
        "until_s": question.until_s,
        "reach_s": reach_s,
        "back_s": question.since_s - reach_s,
        "currency": question.currency,
        "cost_channels": channels,
        "costs": [float(question.costs[name]) for name in channels],
        "k": question.k,
        "rows_max": ROWS_MAX,
        **{_filter(place): value for place, value in enumerate(question.where.values())},
    }
