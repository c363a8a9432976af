"""Contracts are what the models say, and no edit breaks what was released."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # no stubs here

from schemas.contracts_build import (
    BASELINE,
    CONTRACTS,
    DIALECT,
    PAGE,
    ROOT,
    build_contracts,
    build_files,
    main,
    read_baseline,
    release_breaks,
    stale_files,
)
from schemas.errors import ConfigError

HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "01JZ8Q3V7K5Y6M7N8P9QARBSCT",
    "ce_source": "/game/signup",
    "ce_type": "ntf.request.created.v1",
    "ce_time": "2026-07-04T08:00:00.137Z",
    "content-type": "application/json",
    "ce_datapurpose": "new_player_reg",
    "ce_dataclassification": "INTERNAL",
    "ce_correlationid": "01JZ8Q3V7K5Y6M7N8P9QARBSCV",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with everything generated and released."""
    assert 0 == main(["--release"], root=tmp_path)
    return tmp_path


def ticket_faults(**changes: str | None) -> list[str]:
    headers = {**HEADERS, **{name.replace("__", "-"): value for name, value in changes.items()}}
    given = {name: value for name, value in headers.items() if value is not None}
    contract = build_contracts()["ticket.v1"]
    return [fault.message for fault in Draft202012Validator(contract).iter_errors(given)]


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_committed_contracts_and_the_page_are_what_the_models_say() -> None:
    """When this fails: run `python -m schemas.contracts_build` and look at the difference."""
    assert [] == stale_files()


def test_no_contract_breaks_the_released_one() -> None:
    """When this fails: keep the version as it was, and add the next one beside it."""
    assert [] == release_breaks()


def test_something_is_released() -> None:
    assert "ticket.v1" in read_baseline()


def test_building_twice_writes_the_same() -> None:
    assert build_files() == build_files()


@pytest.mark.parametrize("name", build_contracts())
def test_contract_is_a_schema_of_the_named_dialect_and_names_no_host(name: str) -> None:
    contract = build_contracts()[name]
    Draft202012Validator.check_schema(contract)
    hosts = set(re.findall(r"https?://[^\"\s]*", json.dumps(contract)))

    assert {DIALECT} == hosts
    assert f"urn:airside:contract:{name}" == contract["$id"]


def test_check_is_silent_on_a_fresh_checkout(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["--check"], root=checkout)
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize("path", [CONTRACTS / "ticket.v1.schema.json", PAGE])
def test_check_names_a_file_that_was_edited_by_hand(
    checkout: Path, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    (checkout / path).write_text("edited")

    assert 1 == main(["--check"], root=checkout)
    assert f"{path}: differs from the models\n" == capsys.readouterr().out


def test_check_names_a_file_that_nobody_generates_and_writing_removes_it(checkout: Path) -> None:
    orphan = CONTRACTS / "ntf.gone.v1.schema.json"
    (checkout / orphan).write_text("{}")

    assert [orphan] == stale_files(checkout)
    assert 0 == main([], root=checkout)
    assert [] == stale_files(checkout)


def test_check_fails_on_a_break_of_the_released_contract(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkout / BASELINE / "ntf.delivery.sent.v1.schema.json"
    properties = json.loads(path.read_text())["properties"]
    edit(path, properties={**properties, "postmark": {"type": "string"}})

    assert 1 == main(["--check"], root=checkout)
    assert "ntf.delivery.sent.v1/postmark: property removed\n" == capsys.readouterr().out


def test_removed_event_type_is_a_break(checkout: Path) -> None:
    (checkout / BASELINE / "ntf.gone.v1.schema.json").write_text("{}")

    assert ["ntf.gone.v1: contract removed"] == release_breaks(checkout)


def test_release_refuses_to_break_the_one_before(checkout: Path) -> None:
    edit(checkout / BASELINE / "ntf.delivery.sent.v1.schema.json", required=["journey_id"])

    with pytest.raises(ConfigError, match="campaign is newly required"):
        main(["--release"], root=checkout)


def test_committed_baseline_has_no_stray_file() -> None:
    strays = [
        path for path in (ROOT / BASELINE).iterdir() if path.suffixes[-2:] != [".schema", ".json"]
    ]

    assert [] == strays


def test_ticket_contract_takes_the_required_headers_alone() -> None:
    assert [] == ticket_faults()


@pytest.mark.parametrize("name", HEADERS)
def test_ticket_contract_misses_each_required_header(name: str) -> None:
    assert [f"'{name}' is a required property"] == ticket_faults(**{name: None})


@pytest.mark.parametrize("classes", ["PII", "GDPR,PII", "CONFIDENTIAL,PCI", "PHI", "SPECIAL"])
def test_ticket_contract_wants_subject_and_category_from_personal_data_upward(
    classes: str,
) -> None:
    wanted = {f"'{name}' is a required property" for name in ("ce_subject", "ce_datacategory")}
    told = {"ce_subject": "usr_9f2c1b7ae04d3c58", "ce_datacategory": "identity"}

    assert wanted == set(ticket_faults(ce_dataclassification=classes))
    assert [] == ticket_faults(ce_dataclassification=classes, **told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", "0.3"),
        ("ce_id", "short"),
        ("ce_id", "with space"),
        ("ce_time", "yesterday"),
        ("ce_type", "created"),
        ("content__type", "text/xml"),
        ("ce_dataclassification", "pii"),
        ("ce_dataclassification", ""),
        ("ce_datahops", "in.c1"),
        ("ce_datahops", "in.c1.0>" * 40 + "in.c1.0"),
        ("ce_ticketmac", "x"),
        ("traceparent", "00-0-0-0"),
    ],
)
def test_ticket_contract_refuses_headers_in_another_form(name: str, value: str) -> None:
    assert [] != ticket_faults(**{name: value})


def test_ticket_contract_takes_a_ticket_with_everything() -> None:
    everything = {
        "ce_datapolicy": "7",
        "ce_datahops": "in.c1.0>~3>ro.e1.1Ap",
        "ce_causationid": "01JZ8Q3V7K5Y6M7N8P9QARBSCW",
        "ce_dataregulation": "GDPR,PCI-DSS",
        "ce_dataschema": "urn:airside:contract:ntf.request.created.v1",
        "ce_recordedtime": "2026-07-04T08:00:00.150Z",
        "ce_expirytime": "2026-07-05T10:00:00+02:00",
        "ce_ticketmac": "AbCdEfGhIjKlMn-_",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "harbour=t61rcWkgMzE",
        "colour": "unknown headers are kept",
    }

    assert [] == ticket_faults(**everything)
