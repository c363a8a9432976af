"""A log of messages becomes requests and engagements, and every line is accounted for."""

from __future__ import annotations

import gzip
import io
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from flows.convert import Converted, convert, run_convert
from flows.lines import EX_DATAERR, FAULTS_KEPT_MAX
from flows.message_log import ROW_BYTES_MAX, Columns, Message, OpenRequests, pseudonym
from flows.places import POLICY
from flows.structured_event import BinaryEvent, read_event
from schemas.errors import ConfigError, PermanentError
from schemas.events import EVENT_TYPES
from schemas.policy import load_policy
from schemas.ticket import Ticket
from schemas.ticket_reader import TicketReader

KEY = b"a key of sixteen"
DAY = 86_400
ANA, BO, CY = (pseudonym(KEY, person) for person in ("ana", "bo", "cy"))


class Log:
    """A folder with a log to convert, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "harbour.csv"
        self.target = folder / "events.jsonl"

    def convert(self, text: str | bytes, **more: Any) -> Converted:
        self.source.write_bytes(text.encode() if isinstance(text, str) else text)
        return convert(self.source, self.target, key=KEY, **more)

    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.target.read_bytes().splitlines()]

    def replies(self) -> list[tuple[str, str]]:
        return [
            (event["causationid"], event["data"]["provider_event_id"])
            for event in self.events()
            if event["type"] == "ntf.engagement.replied.v1"
        ]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_message_becomes_a_request_to_its_recipient(log: Log) -> None:
    log.convert("sender,recipient,unix\nana,bo,1082040961\n")

    expected = {
        "specversion": "1.0",
        "type": "ntf.request.created.v1",
        "source": "/logs/harbour",
        "time": "2004-04-15T14:56:01.000Z",
        "datacontenttype": "application/json",
        "datapurpose": "transactional_notice",
        "dataclassification": "GDPR,PII",
        "datacategory": "behaviour,identity",
        "subject": BO,
        "correlationid": "harbour-00000002-jrn",
        "id": "harbour-00000002-req",
        "actor": ANA,
        "data": {
            "journey_id": "harbour-00000002-jrn",
            "notification_id": "harbour-00000002-ntf",
            "campaign": "direct-message",
            "tenant": "harbour",
            "subject": BO,
            "template": "message",
            "channels_allowed": ["chat"],
            "priority": "normal",
            "idempotency_key": "harbour-00000002",
            "recipient": BO,
        },
    }
    assert [expected] == log.events()


def test_a_reply_is_an_engagement_of_the_request_and_a_request_of_its_own(log: Log) -> None:
    done = log.convert("ana,bo,100\nbo,ana,160\n")
    request, reply, answer = log.events()

    assert (2, 1) == (done.requests, done.engagements)
    assert "ntf.engagement.replied.v1" == reply["type"]
    assert (request["id"], request["correlationid"]) == (
        reply["causationid"],
        reply["correlationid"],
    )
    assert (BO, "1970-01-01T00:02:40.000Z") == (reply["subject"], reply["time"])
    assert "harbour-00000001-rep" == reply["id"]
    assert ("harbour-00000002-req", ANA) == (answer["id"], answer["subject"])


def test_one_reply_answers_every_request_that_is_still_open(log: Log) -> None:
    log.convert("ana,bo,0\nana,bo,10\nana,cy,11\nbo,cy,12\nbo,ana,20\nbo,ana,30\n")

    expected = [
        ("harbour-00000001-req", "harbour-00000005"),
        ("harbour-00000002-req", "harbour-00000005"),
    ]
    assert expected == log.replies()


@pytest.mark.parametrize(("seconds", "count"), [(DAY, 1), (DAY + 1, 0)])
def test_a_reply_counts_up_to_a_day_later(log: Log, seconds: int, count: int) -> None:
    assert count == log.convert(f"ana,bo,0\nbo,ana,{seconds}\n").engagements


def test_in_the_same_second_the_order_of_the_file_decides(log: Log) -> None:
    log.convert("bo,ana,5\nana,bo,5\nbo,ana,5\n")

    expected = [
        ("harbour-00000001-req", "harbour-00000002"),
        ("harbour-00000002-req", "harbour-00000003"),
    ]
    assert expected == log.replies()


def test_a_message_to_oneself_is_a_request_that_nothing_answers(log: Log) -> None:
    done = log.convert("ana,ana,1\nana,ana,2\n")

    assert (2, 2, 0) == (done.requests, done.to_self, done.engagements)


def test_rows_out_of_order_are_sorted_and_equal_times_keep_their_order(log: Log) -> None:
    log.convert("ana,bo,30\nana,cy,10\nbo,cy,20\ncy,bo,10\n")

    assert [2, 4, 3, 1] == [
        int(event["id"].split("-")[1])
        for event in log.events()
        if event["type"] == "ntf.request.created.v1"
    ]


def test_every_line_is_accounted_for_and_none_is_quoted(log: Log) -> None:
    lines = [
        b"from,to,when",
        b"ana,bo,1",
        b"",
        b"ana,bo",
        b"ana,,5",
        b"ana,bo,soon",
        b"ana,bo,-5",
        b"ana,bo,1e9",
        b"ana,bo,253402300800",
        b"\xff,bo,5",
        b'"ana,bo,5',
        b"a" * (ROW_BYTES_MAX + 1),
        b"bo,ana,2.25,further",
    ]
    done = log.convert(b"\xef\xbb\xbf" + b"\r\n".join(lines))

    assert len(lines) == done.lines == done.headers + done.requests + done.faults.total
    assert (1, 2, 1) == (done.headers, done.requests, done.engagements)
    assert {
        "blank": 1,
        "too few columns": 1,
        "no sender or no recipient": 1,
        "time is not in unix seconds": 4,
        "not UTF-8": 1,
        "quotes are not closed": 1,
        f"longer than {ROW_BYTES_MAX} bytes": 1,
    } == done.faults.by_reason
    assert list(range(3, 13)) == [fault.line for fault in done.faults.first]
    assert "1970-01-01T00:00:02.250Z" == log.events()[-1]["time"]
    assert b"ana" not in log.target.read_bytes()


def test_faults_are_counted_beyond_those_whose_places_are_kept(log: Log) -> None:
    done = log.convert("x\n" * (FAULTS_KEPT_MAX + 7))

    assert FAULTS_KEPT_MAX + 7 == done.faults.total == done.lines
    assert FAULTS_KEPT_MAX == len(done.faults.first)


def test_a_log_without_a_line_gives_no_events(log: Log) -> None:
    assert 0 == log.convert("").lines
    assert [] == log.events()


def test_columns_delimiter_and_quotes_are_as_told(log: Log) -> None:
    plain = log.convert('7;"bo";x;"an""a";ok\n', columns=Columns(3, 1, 0), delimiter=";")
    [event] = log.events()

    assert 1 == plain.requests
    assert (pseudonym(KEY, 'an"a'), BO) == (event["actor"], event["subject"])


def test_marks_and_spaces_around_a_person_are_not_part_of_the_person(log: Log) -> None:
    log.convert(b"\xef\xbb\xbfana, bo ,1\n")
    [event] = log.events()

    assert (ANA, BO) == (event["actor"], event["subject"])


def test_gzip_is_read_and_written_and_the_same_log_gives_the_same_bytes(log: Log) -> None:
    log.target = log.folder / "events.jsonl.gz"
    log.convert(gzip.compress(b"ana,bo,1\nbo,ana,2\n"))
    first = log.target.read_bytes()
    log.convert(b"ana,bo,1\nbo,ana,2\n")

    assert first == log.target.read_bytes()
    assert bytes(4) == first[4:8], "the time in the gzip header"
    assert 3 == len(gzip.decompress(first).splitlines())


def test_another_key_gives_other_people_and_the_same_ids(log: Log) -> None:
    log.convert("ana,bo,1\n")
    [one] = log.events()
    convert(log.source, log.target, key=b"another key of 20 by")
    [other] = log.events()

    assert one["id"] == other["id"]
    assert one["subject"] != other["subject"]


def test_every_event_is_one_that_ingest_routes(log: Log) -> None:
    log.convert("ana,bo,1\nbo,ana,2\n")
    reader = TicketReader(load_policy(POLICY))
    for line in log.target.read_bytes().splitlines():
        event = read_event(line)
        assert isinstance(event, BinaryEvent)
        ticket = reader.read(event.headers)

        assert isinstance(ticket, Ticket)
        body: Any = EVENT_TYPES[event.type].decode(event.value or b"")
        assert "ntf.routed.restricted.v1" == ticket.label.decision.topic
        assert not ticket.label.decision.consent
        assert (ticket.correlation, ticket.subject) == (body.journey_id, body.subject)


def test_a_gzip_that_breaks_off_leaves_nothing_behind(log: Log) -> None:
    rows = "".join(f"ana,bo,{n}\n" for n in range(9_000)).encode()

    with pytest.raises(PermanentError, match="broken gzip"):
        log.convert(gzip.compress(rows)[:-9])
    assert [log.source] == list(log.folder.iterdir())


def test_a_target_that_was_there_stays_when_the_conversion_fails(log: Log) -> None:
    log.convert("ana,bo,1\n")
    before = log.target.read_bytes()

    with pytest.raises(PermanentError):
        log.convert(gzip.compress(b"ana,bo,2\n" * 100)[:-9])
    assert before == log.target.read_bytes()


def test_a_conversion_that_stops_half_way_leaves_nothing_behind(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.convert.OPEN_REQUESTS_MAX", 1)

    with pytest.raises(PermanentError, match="split the log"):
        log.convert("ana,bo,1\nana,bo,2\n")
    assert [log.source] == list(log.folder.iterdir())


def test_paths_and_keys_that_cannot_work_are_refused_before_the_start(log: Log) -> None:
    log.source.write_text("ana,bo,1\n")
    nowhere = log.folder / "nowhere"

    with pytest.raises(ConfigError, match="could not read file"):
        convert(nowhere, log.target, key=KEY)
    with pytest.raises(ConfigError, match="could not write file"):
        convert(log.source, nowhere / "events.jsonl", key=KEY)
    with pytest.raises(ConfigError, match="could not write file"):
        convert(log.source, log.source, key=KEY)
    with pytest.raises(ConfigError, match="found 5 bytes; expected at least 16"):
        convert(log.source, log.target, key=b"short")
    with pytest.raises(ConfigError, match="delimiter"):
        convert(log.source, log.target, key=KEY, delimiter="||")
    with pytest.raises(ConfigError, match="could not write file"):
        convert(log.source, log.folder, key=KEY)


@pytest.mark.parametrize("text", ["0,1", "0,1,1", "a,b,c", "0,1,2,3", "-1,0,1"])
def test_columns_that_are_no_three_places_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 0,1,2"):
        Columns.parse(text)


def message(line: int, at_s: int, sender: str = "a", recipient: str = "b") -> Message:
    return Message(at_s * 1_000, line, sender, recipient)


def test_requests_older_than_a_day_are_forgotten() -> None:
    waiting = OpenRequests(within_ms=DAY * 1_000, requests_max=10)
    for line in range(100):
        assert () == waiting.answered_by(message(line, line * DAY))
        waiting.add(message(line, line * DAY))

    assert 2 == len(waiting)
    assert [98, 99] == [
        request.line for request in waiting.answered_by(message(100, 99 * DAY, "b", "a"))
    ]


def test_more_open_requests_than_the_bound_stop_the_conversion() -> None:
    waiting = OpenRequests(within_ms=DAY * 1_000, requests_max=2)
    waiting.add(message(1, 0))
    waiting.add(message(2, 0))

    with pytest.raises(PermanentError, match="more than 2 messages within a day"):
        waiting.add(message(3, 0))


def test_the_command_says_what_became_of_the_lines_and_keeps_its_key(log: Log) -> None:
    log.source.write_text("ana,bo,1\nbo,ana,2\nbroken\n")
    said = io.StringIO()
    statuses = [
        run_convert(log.source, log.target, console=Console(file=said, width=200)) for _ in "12"
    ]
    key_file = log.folder / "events.jsonl.key"
    events = log.events()

    assert [EX_DATAERR, EX_DATAERR] == statuses
    assert "3 lines: 0 header, 2 requests (0 to self), 1 left out; 1 engagements" in said.getvalue()
    assert "1 x too few columns (line 3)" in said.getvalue()
    assert 0o600 == stat.S_IMODE(key_file.stat().st_mode)
    assert pseudonym(key_file.read_bytes().strip(), "bo") == events[0]["subject"]


def test_the_command_makes_no_key_for_a_log_that_is_not_there(log: Log) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        run_convert(log.source, log.target)
    assert [] == list(log.folder.iterdir())
