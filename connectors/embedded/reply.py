"""How results and refusals go back over HTTP, with the headers that ClickHouse clients read."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from connectors.embedded.call import Task
from connectors.embedded.codec import Encoder, encode_whole
from connectors.embedded.engine import Answer, EngineRefusedError, Refusal, Stream

T = TypeVar("T")

TOO_MANY_BYTES: Final = 307
NETWORK_ERROR: Final = 210
TIMEOUT_EXCEEDED: Final = 159
SOCKET_TIMEOUT: Final = 209
_STATUS: Final[Mapping[int, int]] = {
    **dict.fromkeys([6, 26, 27, 33, 36, 38, 41, 43, 53, 62, 72, 117, 386, 456, 457], 400),
    **dict.fromkeys([46, 47, 50, 56, 60, 63, 73, 81, 115], 404),
    48: 501,
    TIMEOUT_EXCEEDED: 504,
    SOCKET_TIMEOUT: 408,
    NETWORK_ERROR: 503,
    TOO_MANY_BYTES: 413,
}
_FALLBACK_STATUS: Final = 500
_CONTENT_TYPES: Final[Mapping[str, str]] = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    **dict.fromkeys(
        ["Native", "RowBinary", "Arrow", "ArrowStream", "Parquet"], "application/octet-stream"
    ),
}


class Worker(Protocol):
    """Runs a blocking job in a thread of the server."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]:
        """Hand over the job; await its result."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What every reply of this server says about itself."""

    version: str
    timezone: str

    def text(self, refusal: Refusal) -> str:
        """The engine's message with the trailer that a server adds."""
        trailer = "" if "(version " in refusal.text else f" (version {self.version})"
        return f"{refusal.text}{trailer}"

    @staticmethod
    def names(query_id: str) -> dict[str, str]:
        """The headers that replies of every kind carry."""
        return {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "airside-embedded",
        }

    def headers(self, task: Task, query_id: str, encoding: str) -> dict[str, str]:
        """The headers of a result."""
        chosen = task.order.output_format
        headers = {
            "Content-Type": _CONTENT_TYPES.get(chosen, "text/plain; charset=UTF-8"),
            "X-ClickHouse-Format": chosen,
            "X-ClickHouse-Timezone": task.order.settings.get("session_timezone", self.timezone),
            **self.names(query_id),
        }
        if encoding:
            headers["Content-Encoding"] = encoding
        return headers

    def whole(self, task: Task, answer: Answer, query_id: str, encoding: str) -> Response:
        """A result that is held whole."""
        headers = self.headers(task, query_id, encoding if answer.body else "")
        headers["X-ClickHouse-Summary"] = json.dumps(answer.summary)
        if not answer.body:
            if not task.reads:  # clients tell an empty result from no result by this header
                del headers["X-ClickHouse-Format"]
            return Response(headers=headers)
        return Response(encode_whole([answer.body], encoding), headers=headers)

    def refusal(self, refusal: Refusal, query_id: str) -> Response:
        """A refusal: status, code header and text."""
        return PlainTextResponse(
            self.text(refusal) + "\n",
            _STATUS.get(refusal.code, _FALLBACK_STATUS),
            headers={
                "X-ClickHouse-Exception-Code": str(refusal.code),
                **self.names(query_id),
            },
        )


class StreamResponse(Response):
    """Send a result block by block; a failure after the start ends it with a marked message.

    The connection then ends without the closing chunk, so that a client which does not know the
    mark cannot take the part for the whole.
    """

    def __init__(
        self,
        stream: Stream,
        first: bytes | None,
        *,
        work: Worker,
        sender: Sender,
        headers: Mapping[str, str],
        encoding: str,
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._stream, self._first, self._work, self._sender = stream, first, work, sender
        self._encoder = Encoder(encoding)
        self._tag = secrets.token_hex(8)
        self.headers["X-ClickHouse-Exception-Tag"] = self._tag

    async def abandon(self) -> None:
        """Give the engine's handle back without sending anything."""
        await asyncio.shield(asyncio.ensure_future(self._work(self._stream.close)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send all blocks, and give the handle back whatever happens."""
        try:
            start: dict[str, Any] = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": self.raw_headers})
            await self._send_blocks(send)
        finally:
            await self.abandon()

    async def _send_blocks(self, send: Send) -> None:
        piece = self._first
        try:
            while piece is not None:
                await _send(send, self._encoder.encode(piece), more=True)
                piece = await self._work(self._stream.next_piece)
        except EngineRefusedError as error:
            rest = self._encoder.encode(self._marked(error.refusal)) + self._encoder.finish()
            await _send(send, rest, more=True)
            return
        await _send(send, self._encoder.finish(), more=False)

    def _marked(self, refusal: Refusal) -> bytes:
        text, tag = self._sender.text(refusal).encode(), self._tag.encode()
        head = b"\r\n__exception__\r\n%b\r\n%b" % (tag, text)
        return head + b"\n%d %b\r\n__exception__\r\n" % (len(text), tag)


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    if body or not more:
        await send({"type": "http.response.body", "body": body, "more_body": more})
