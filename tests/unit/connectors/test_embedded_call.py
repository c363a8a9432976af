"""What a request asks of the engine."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedded.call import Call, Task, read_task
from connectors.embedded.engine import EngineRefusedError, quote, read_refusal
from connectors.embedded.fault import Fault, FaultSwitch
from connectors.embedded.guard import is_loopback, refusal_of
from connectors.embedded.multipart import Part, boundary_of, split_parts


def read(
    form: dict[str, str] | None = None,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    read_only: bool = False,
) -> Task:
    return read_task(Call(form or {}, headers or {}, body, read_only), bytes_max=1 << 20)


def test_text_in_the_address_goes_before_the_body() -> None:
    task = read({"query": "SELECT a "}, b"FROM t")

    assert task.order.text == b"SELECT a\nFROM t"


def test_data_follow_text_in_the_address() -> None:
    task = read({"query": "INSERT INTO t FORMAT Native\n"}, b"\n\x01\x02")

    assert (task.order.input_format, b"".join(task.order.data)) == ("Native", b"\n\x01\x02")


def test_encoded_data_are_decoded() -> None:
    body = gzip.compress(b"INSERT INTO t FORMAT CSV\n1,2\n" * 1)
    task = read({}, body, {"content-encoding": "gzip"})

    assert b"".join(task.order.data) == b"1,2\n"


def test_settings_parameters_and_transport_are_told_apart() -> None:
    order = read(
        {
            "query": "SELECT {n:UInt8}",
            "param_n": "1",
            "max_threads": "2",
            "session_id": "s",
            "client_protocol_version": "54405",
            "database": "airside",
        }
    ).order

    assert (order.settings, order.params, order.database) == (
        {"max_threads": "2"},
        {"n": "1"},
        "airside",
    )


def test_headers_give_what_the_address_leaves_open() -> None:
    headers = {"x-clickhouse-database": "d", "x-clickhouse-format": "JSON"}

    for form, output_format in (
        ({"query": "SELECT 1"}, "JSON"),
        ({"query": "SELECT 1", "default_format": "CSV"}, "CSV"),
        ({"query": "SELECT 1 FORMAT TSV", "default_format": "CSV"}, "TSV"),
    ):
        assert read(form, headers=headers).order.output_format == output_format

    assert read({"query": "SELECT 1"}, headers=headers).order.database == "d"


def test_only_formats_without_a_frame_stream() -> None:
    assert read({"query": "SELECT 1 FORMAT Native"}).streams
    assert not read({"query": "SELECT 1 FORMAT Native", "wait_end_of_query": "1"}).streams
    assert not read({"query": "SELECT 1 FORMAT JSON"}).streams
    assert not read({"query": "SHOW TABLES FORMAT Native"}).streams


def test_a_form_carries_text_parameters_and_tables() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_s"\r\n\r\nlong\r\n'
        b'--b\r\nContent-Disposition: form-data; name="p"; filename="p.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n1\r\n2\r\n--b--\r\n"
    )
    order = read(
        {"p_format": "CSV", "p_types": "UInt8,Tuple(UInt8, String)"},
        body,
        {"content-type": "multipart/form-data; boundary=b"},
    ).order
    (table,) = order.externals

    assert (order.text, order.params, order.settings) == (b"SELECT 1\n", {"s": "long"}, {})
    assert (table.name, table.input_format, table.data) == ("p", "CSV", b"1\r\n2")
    assert table.structure == "_1 UInt8, _2 Tuple(UInt8, String)"


@pytest.mark.parametrize(
    ("form", "body", "code"),
    [
        ({}, b"", 62),
        ({"query": " "}, b" \n", 62),
        ({"query": "SELECT 1; SELECT 2"}, b"", 62),
        ({"query": "SELECT 1", "compress": "1"}, b"", 48),
        ({"query": "SELECT 1", "decompress": "true"}, b"", 48),
    ],
)
def test_what_is_not_served_is_refused_with_a_code(
    form: dict[str, str], body: bytes, code: int
) -> None:
    with pytest.raises(EngineRefusedError) as caught:
        read(form, body)

    assert caught.value.refusal.code == code
    assert caught.value.refusal.text.startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize("body", [b"", b"--b", b"x--b\r\n\r\n--b--", b"--b\r\nno blank\r\n--b--"])
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="multipart"):
        split_parts(body, b"b")


@given(st.binary(max_size=200))
def test_a_part_is_kept_byte_by_byte(content: bytes) -> None:
    head = b'--qZ7\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    body = head + content + b"\r\n--qZ7--\r\n"
    if b"--qZ7" not in content:
        assert split_parts(body, b"qZ7") == [Part("a", "", content)]


def test_only_forms_have_a_boundary() -> None:
    assert boundary_of("multipart/form-data; boundary=b") == b"b"
    assert boundary_of("text/plain; boundary=b") == b""
    assert boundary_of("") == b""


def test_literals_are_quoted() -> None:
    assert quote("a'b\\") == "'a\\'b\\\\'"


def test_an_error_without_a_code_is_unknown() -> None:
    assert read_refusal(RuntimeError("odd")).code == 1002


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ({b"host": b"127.0.0.1:8123"}, ""),
        ({b"host": b"localhost"}, ""),
        ({b"host": b"[::1]:1"}, ""),
        ({b"host": b"127.0.0.1", b"origin": b"http://localhost:3000"}, ""),
        ({b"host": b"127.0.0.1", b"sec-fetch-site": b"none"}, ""),
        ({}, "Host"),
        ({b"host": b"[::1"}, "Host"),
        ({b"host": b"192.0.2.1"}, "Host"),
        ({b"host": b"localhost.example.org"}, "Host"),
        ({b"host": b"127.0.0.1", b"origin": b"null"}, "Origin"),
        ({b"host": b"127.0.0.1", b"origin": b"https://example.org"}, "Origin"),
        ({b"host": b"127.0.0.1", b"sec-fetch-site": b"same-site"}, "Sec-Fetch-Site"),
    ],
)
def test_requests_from_elsewhere_are_told_by_their_headers(
    headers: dict[bytes, bytes], wrong: str
) -> None:
    assert refusal_of(headers) == wrong


def test_loopback_is_this_machine_only() -> None:
    assert [is_loopback(name) for name in ("127.9.9.9", "0.0.0.0", "", "example.org")] == [
        True,
        False,
        False,
        False,
    ]


def test_a_fault_ends_after_its_count() -> None:
    switch = FaultSwitch(Fault.SLOW, seconds=1.5, left=2)

    assert [switch.draw() for _ in range(3)] == [
        (Fault.SLOW, 1.5),
        (Fault.SLOW, 1.5),
        (Fault.NONE, 1.5),
    ]


def test_a_fault_without_a_count_stays() -> None:
    switch = FaultSwitch(Fault.REFUSE)

    assert [switch.draw()[0] for _ in range(3)] == [Fault.REFUSE] * 3
