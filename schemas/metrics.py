"""Metrics and objectives as data: read from `metrics.yaml`, in the shape of dbt's semantic layer.

What stands in the file is the whole language of analysts: measures over few tables, dimensions
that may be asked for, and metrics made of them. Nothing else reaches SQL.
Source: the metric types are dbt's: simple, ratio, derived, cumulative, conversion.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Sentence = Annotated[str, StringConstraints(min_length=10, max_length=200)]
Act = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
SPAN_PATTERN: Final = r"^[1-9][0-9]{0,4}[smhd]$"

JOURNEYS: Final = "journeys"
"""The model that conversions are counted in."""

_DEPTH_MAX: Final = 8
_OPERATORS: Final = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Measure(_Part):
    """One aggregate over a table: an SQL expression of its columns, written by us.

    `money`: it adds amounts, so it is asked for in one currency at a time.
    """

    sql: str
    money: bool = False


class Span(_Part):
    """Columns of journeys that spare a conversion the look into all acts and their times.

    `has` tells whether there was a `base`; `ms` how long after the first one the next `conversion`
    came, in milliseconds, null where none did.
    """

    base: Act
    has: Name
    conversion: Act
    ms: Name


class Model(_Part):
    """One table as metrics see it.

    `time` is the column that a span of time is taken on, `dimensions` are columns by the name
    that is asked for, `people` the column with people's pseudonyms, where there is one.
    """

    table: Literal["rollup_1m_lanes FINAL", "journeys FINAL"]
    time: str
    dimensions: dict[Name, str]
    measures: dict[Name, Measure]
    people: Name | Literal[""] = ""
    spans: tuple[Span, ...] = ()


class _Metric(_Part):
    name: Name
    says: Sentence
    format: Literal["count", "money", "percent", "number", "seconds"] = "count"
    good: Literal["up", "down", "neither"] = "neither"


class Simple(_Metric):
    """A measure as it is."""

    type: Literal["simple"]
    model: Name
    measure: Name


class Ratio(_Metric):
    """One metric divided by another; unknown where that is zero."""

    type: Literal["ratio"]
    numerator: Name
    denominator: Name


class Derived(_Metric):
    """Arithmetic over other metrics: names, numbers, + - * / and brackets."""

    type: Literal["derived"]
    expr: str


class Cumulative(_Metric):
    """A metric added up over a sliding span of time, or since the beginning without one."""

    type: Literal["cumulative"]
    metric: Name
    window: Annotated[str, StringConstraints(pattern=SPAN_PATTERN)] | None = None


class Conversion(_Metric):
    """The share of journeys with one act that also have another within a span of it."""

    type: Literal["conversion"]
    base: Act
    conversion: Act
    window: Annotated[str, StringConstraints(pattern=SPAN_PATTERN)]


Metric = Simple | Ratio | Derived | Cumulative | Conversion


class KeyResult(_Part):
    """Where a metric was, where it has to get to, and until when."""

    metric: Name
    baseline: float
    target: float
    due: date


class Objective(_Part):
    """What is wanted, who answers for it, and the figures that show it."""

    objective: Sentence
    owner: Name
    key_results: Annotated[tuple[KeyResult, ...], Field(min_length=1)]


class Catalog(_Part):
    """All models, metrics and objectives; names are checked against each other."""

    models: dict[Name, Model]
    metrics: tuple[Annotated[Metric, Field(discriminator="type")], ...]
    objectives: tuple[Objective, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [metric.name for metric in self.metrics]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"metrics that stand twice: {', '.join(doubled)}")
        for metric in self.metrics:
            self._check_parts(metric)
            self._depth(metric.name, ())
        for objective in self.objectives:
            for result in objective.key_results:
                self._known(result.metric, f"objective of {objective.owner}")
        return self

    def _check_parts(self, metric: Metric) -> None:
        if isinstance(metric, Simple):
            model = self.models.get(metric.model)
            if model is None or metric.measure not in model.measures:
                raise ValueError(f"{metric.name}: no measure {metric.model}.{metric.measure}")
        for part in parts_of(metric):
            self._known(part, metric.name)
        if isinstance(metric, Cumulative) and not isinstance(self.by_name[metric.metric], Simple):
            msg = f"{metric.name}: only a simple metric adds up"
            raise ValueError(msg)  # noqa: TRY004 - pydantic rewraps it

    def _known(self, name: str, where: str) -> None:
        if name not in self.by_name:
            raise ValueError(f"{where}: no metric {name}")

    def _depth(self, name: str, path: tuple[str, ...]) -> None:
        if name in path or len(path) > _DEPTH_MAX:
            raise ValueError(f"{path[0]}: made of itself, or of too many others")
        for part in parts_of(self.by_name[name]):
            self._depth(part, (*path, name))

    @property
    def by_name(self) -> Mapping[str, Metric]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    def models_of(self, name: str) -> frozenset[str]:
        """The models that a metric is made of."""
        metric = self.by_name[name]
        if isinstance(metric, Simple):
            return frozenset((metric.model,))
        if isinstance(metric, Conversion):
            return frozenset((JOURNEYS,))
        return frozenset().union(*(self.models_of(part) for part in parts_of(metric)))

    def dimensions_of(self, name: str) -> tuple[str, ...]:
        """What a metric may be asked by: the dimensions that all its models have."""
        models = [self.models[model].dimensions for model in self.models_of(name)]
        return tuple(part for part in models[0] if all(part in other for other in models))

    def metric(self, name: str) -> Metric:
        """The metric of a name.

        Errors: ConfigError that names the likeliest ones meant.
        """
        found = self.by_name.get(name)
        if found is None:
            raise unknown("metric", name, self.by_name)
        return found


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """What is said of a name that is not there: the nearest ones that are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    expected = " or ".join(near) if near else ", ".join(known)
    return ConfigError(do="query", kind=kind, name=name, found="no such name", expected=expected)


def parts_of(metric: Metric) -> tuple[str, ...]:
    """The metrics that one is made of."""
    if isinstance(metric, Ratio):
        return (metric.numerator, metric.denominator)
    if isinstance(metric, Cumulative):
        return (metric.metric,)
    if isinstance(metric, Derived):
        return tuple(sorted(_names_in(parse_expression(metric.expr))))
    return ()


def parse_expression(text: str) -> ast.expr:
    """Read the arithmetic of a derived metric.

    Errors: ValueError for anything but names, numbers, + - * / and brackets.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError("an expression that is no arithmetic") from None
    _check_expression(tree)
    return tree


def _check_expression(node: ast.expr) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check_expression(node.left)
        _check_expression(node.right)
    elif not isinstance(node, ast.Name) and not (
        isinstance(node, ast.Constant) and type(node.value) in (int, float)
    ):
        raise ValueError("an expression with more than names, numbers, + - * / and brackets")


def _names_in(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def write_expression(node: ast.expr, sql_of: Mapping[str, str]) -> str:
    """Write checked arithmetic as SQL; a division by zero is unknown.

    >>> write_expression(parse_expression("(a - b) / 2"), {"a": "x", "b": "y"})
    '((x - y) / nullIf(2, 0))'
    """
    if isinstance(node, ast.Name):
        return sql_of[node.id]
    if isinstance(node, ast.Constant):
        return repr(node.value)
    assert isinstance(node, ast.BinOp)
    left, right = write_expression(node.left, sql_of), write_expression(node.right, sql_of)
    sign = _OPERATORS[type(node.op)]
    if sign == "/":
        right = f"nullIf({right}, 0)"
    return " ".join(("(" + left, sign, right + ")"))


def read_catalog(text: str) -> Catalog:
    """Read a catalog.

    Errors: ConfigError that names the first part that does not fit.
    """
    try:
        return Catalog.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(do="read", kind="metrics", found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        raise ConfigError(do="read", kind="metrics", found=f"{first['msg']} at {place}") from None


@cache
def load_catalog() -> Catalog:
    """The catalog that comes with the package."""
    return read_catalog(files("schemas").joinpath("metrics.yaml").read_text(encoding="utf-8"))
