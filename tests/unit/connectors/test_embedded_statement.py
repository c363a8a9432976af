"""Where a statement ends and its data begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedded.statement import split_statement


@pytest.mark.parametrize(
    ("head", "text", "input_format", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1", b"INSERT INTO t ", "CSV", b"1"),
        (b"INSERT INTO t FORMAT CSV 1", b"INSERT INTO t ", "CSV", b"1"),
        (b"INSERT INTO t FORMAT CSV\r\n 1", b"INSERT INTO t ", "CSV", b" 1"),
        (b"INSERT INTO t FORMAT Native\n\n\x01", b"INSERT INTO t ", "Native", b"\n\x01"),
        (b"INSERT INTO t VALUES (1)", b"INSERT INTO t ", "Values", b"(1)"),
        (b"insert into t values(1)", b"insert into t ", "Values", b"(1)"),
        (b"INSERT INTO values VALUES (1)", b"INSERT INTO values ", "Values", b"(1)"),
        (b"INSERT INTO TABLE format FORMAT TSV\n1", b"INSERT INTO TABLE format ", "TSV", b"1"),
        (b"INSERT INTO d.values FORMAT TSV\n1", b"INSERT INTO d.values ", "TSV", b"1"),
        (b"INSERT INTO `a VALUES b` FORMAT X\n1", b"INSERT INTO `a VALUES b` ", "X", b"1"),
        (
            b"INSERT INTO t (values, format) FORMAT X\n",
            b"INSERT INTO t (values, format) ",
            "X",
            b"",
        ),
        (b"INSERT INTO FUNCTION null('a UInt8') VALUES (1)", None, "Values", b"(1)"),
        (b"-- VALUES\nINSERT /* FORMAT */ INTO t FORMAT X\n1", None, "X", b"1"),
        (b"INSERT INTO t SETTINGS a = ' FORMAT Y ' FORMAT X\n1", None, "X", b"1"),
    ],
)
def test_data_are_told_from_text(
    head: bytes, text: bytes | None, input_format: str, data: bytes
) -> None:
    found = split_statement(head)

    assert (found.input_format, head[found.data_at :]) == (input_format, data)
    assert text is None or found.text == text


@pytest.mark.parametrize(
    "head",
    [
        b"SELECT 1",
        b"INSERT INTO t SELECT 1 FORMAT CSV",
        b"INSERT INTO t (a) WITH 1 AS n SELECT n",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"CREATE TABLE t (a UInt8) ENGINE = Memory",
        b"INSERT",
        b"",
    ],
)
def test_a_statement_without_data_is_all_text(head: bytes) -> None:
    found = split_statement(head)

    assert (found.text, found.input_format, found.data_at) == (head, "", len(head))


@pytest.mark.parametrize(
    ("head", "output_format"),
    [
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\n format Native ;", "Native"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT format FROM t", ""),
        (b"SELECT ' FORMAT JSON'", ""),
        (b"SELECT (SELECT 1 FORMAT JSON)", ""),
        (b"SELECT 1 -- FORMAT JSON", ""),
    ],
)
def test_the_asked_format_is_found(head: bytes, output_format: str) -> None:
    assert split_statement(head).output_format == output_format


@pytest.mark.parametrize(
    ("head", "is_single"),
    [
        (b"SELECT 1", True),
        (b"SELECT 1 ;; -- end", True),
        (b"SELECT ';'", True),
        (b"SELECT 1; SELECT 2", False),
        (b"INSERT INTO t SELECT 1; DROP TABLE t", False),
        (b"SELECT 1 /* ; */ ; x", False),
    ],
)
def test_a_second_statement_is_seen(head: bytes, is_single: bool) -> None:  # noqa: FBT001 - a case
    assert split_statement(head).is_single is is_single


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(head: bytes) -> None:
    found = split_statement(head)

    assert 0 <= found.data_at <= len(head)


@given(st.binary(max_size=300))
def test_data_are_never_touched(data: bytes) -> None:
    head = b"INSERT INTO t (a) FORMAT Native\n" + data

    assert head[split_statement(head).data_at :] == data
