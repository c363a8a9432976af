"""Pages and panels of the dashboard as data: read from `dashboard.yaml`.

A panel shows metrics of `metrics.yaml`, or the answer to a question that has a name; how it is
drawn stands beside it. Every panel is also a table and JSON, so a chart is never all there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import ConfigError
from schemas.metrics import Name, Sentence, load_catalog

Title = Annotated[str, Field(min_length=3, max_length=60)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Chart(_Part):
    """How the lines of an answer are drawn.

    `numbers` writes the values of one line large; `lines` and `bars` draw the columns `y` over `x`,
    one series for each value of `by` where it is given; `band` draws `y` with the bounds in `low`
    and `high`; `heat` colours the cells of `x` and `y[0]` by `z`; `table` draws nothing.
    `level` is a value that a line is drawn at, `diagonal` the line where x and y are equal.
    """

    kind: Literal["numbers", "lines", "bars", "band", "heat", "table"] = "table"
    x: Name | Literal[""] = ""
    y: tuple[Name, ...] = ()
    z: Name | Literal[""] = ""
    by: Name | Literal[""] = ""
    low: Name | Literal[""] = ""
    high: Name | Literal[""] = ""
    stacked: bool = False
    level: float | None = None
    diagonal: bool = False

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        drawn = self.kind in {"lines", "bars", "band", "heat"}
        if drawn and not (self.x and self.y):
            raise ValueError(f"a chart of kind {self.kind} needs x and y")
        if self.kind == "heat" and not self.z:
            raise ValueError("a chart of kind heat needs z")
        if self.kind == "band" and not (self.low and self.high):
            raise ValueError("a chart of kind band needs low and high")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that an answer must have to be drawn."""
        named = (self.x, *self.y, self.z, self.by, self.low, self.high)
        return tuple(name for name in named if name)


class Panel(_Part):
    """One question, and how its answer is shown: either `metrics` or a `query` by name.

    `over_time` asks metrics for each step of time, `by` for each value of dimensions.
    """

    panel: Name
    title: Title
    says: Sentence
    metrics: tuple[Name, ...] = ()
    by: tuple[Name, ...] = ()
    over_time: bool = False
    query: Name | Literal[""] = ""
    chart: Chart = Chart()
    wide: bool = False

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if bool(self.metrics) == bool(self.query):
            raise ValueError("either metrics or a query")
        if self.query and (self.by or self.over_time):
            raise ValueError("by and over_time are for metrics")
        catalog = load_catalog()
        for name in self.metrics:
            if name not in catalog.by_name:
                raise ValueError(f"no metric {name}")
            for dimension in self.by:
                if dimension not in catalog.dimensions_of(name):
                    raise ValueError(f"{name} cannot be asked by {dimension}")
        if self.metrics:
            told = {*self.metrics, *self.by, *(("t",) if self.over_time else ())}
            strangers = sorted(set(self.chart.columns) - told)
            if strangers:
                raise ValueError(f"no column {', '.join(strangers)}")
        return self


class Page(_Part):
    """Panels that belong together."""

    page: Name
    title: Title
    says: Sentence
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [panel.panel for panel in self.panels]
        if len(set(names)) < len(names):
            raise ValueError("a panel stands twice")
        return self


class Dashboard(_Part):
    """All pages."""

    pages: Annotated[tuple[Page, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if len(self.by_name) < len(self.pages):
            raise ValueError("a page stands twice")
        return self

    @property
    def by_name(self) -> Mapping[str, Page]:
        """The pages by name."""
        return {page.page: page for page in self.pages}


def read_dashboard(text: str) -> Dashboard:
    """Read pages and panels.

    Errors: ConfigError that names the first part that does not fit.
    """
    try:
        return Dashboard.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError(do="read", kind="dashboard", found="no YAML") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole file"
        found = f"{first['msg']} at {place}"
        raise ConfigError(do="read", kind="dashboard", found=found) from None


@cache
def load_dashboard() -> Dashboard:
    """The dashboard that comes with the package."""
    return read_dashboard(files("schemas").joinpath("dashboard.yaml").read_text(encoding="utf-8"))
