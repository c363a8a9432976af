"""The HTTP face of the engine: enough of ClickHouse's protocol for unmodified clients."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.embedded.call import INCORRECT_DATA, Call, Task, read_task, refused
from connectors.embedded.codec import BodyTooLargeError, choose_encoding
from connectors.embedded.engine import Engine, EngineRefusedError
from connectors.embedded.fault import Fault, FaultSwitch
from connectors.embedded.guard import LoopbackOnly
from connectors.embedded.reply import (
    NETWORK_ERROR,
    SOCKET_TIMEOUT,
    TIMEOUT_EXCEEDED,
    TOO_MANY_BYTES,
    Sender,
    StreamResponse,
)

T = TypeVar("T")

BAD_REQUEST: Final = 400
METHOD_NOT_ALLOWED: Final = 405


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server."""

    slots: int = 8  # statements at a time; more wait
    body_bytes_max: int = 256 << 20  # of one request, before and after decoding
    body_s_max: float = 120.0  # to receive one request
    result_bytes_max: int = 1 << 30  # of one result that is not streamed
    query_bytes_max: int = 4 << 30  # the engine's memory for one statement


class StatementEndpoint:
    """Answer `/`: one statement per request, a bounded number at a time."""

    def __init__(self, engine: Engine, limits: Limits, switch: FaultSwitch) -> None:
        self._engine = engine
        self._limits = limits
        self._switch = switch
        self._sender = Sender(engine.version, engine.timezone)
        self._slots = asyncio.Semaphore(limits.slots)
        self._threads = ThreadPoolExecutor(limits.slots, thread_name_prefix="statement")
        self.busy = 0

    def _work(self, job: Callable[[], T], /) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, self._counted, job)

    def _counted(self, job: Callable[[], T]) -> T:
        self.busy += 1
        try:
            return job()
        finally:
            self.busy -= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or fail it as the fault switch says."""
        fault, seconds = self._switch.draw()
        if fault is Fault.REFUSE:
            await self._fail(NETWORK_ERROR, "NETWORK_ERROR")(scope, receive, send)
            return
        if fault is Fault.SLOW:
            await asyncio.sleep(seconds)
        try:
            async with self._slots:
                response = await self._respond(Request(scope, receive))
                if fault is not Fault.APPLY_THEN_TIMEOUT:
                    await response(scope, receive, send)
                    return
                if isinstance(response, StreamResponse):
                    await response.abandon()
        except ClientDisconnect:
            return
        await asyncio.sleep(seconds)
        await self._fail(TIMEOUT_EXCEEDED, "TIMEOUT_EXCEEDED")(scope, receive, send)

    def _fail(self, code: int, name: str) -> Response:
        return self._sender.refusal(refused(code, name, "The fault switch is on").refusal, "")

    async def _respond(self, request: Request) -> Response:
        form = dict(request.query_params)
        query_id = form.get("query_id") or str(uuid.uuid4())
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("only GET and POST are served\n", METHOD_NOT_ALLOWED)
        reads_only = request.method != "POST"
        try:
            body = await self._body(request)
            if reads_only and not body and not form.get("query"):
                return PlainTextResponse("Ok.\n")
            call = Call(form, dict(request.headers), body, reads_only)
            return await self._work(partial(self._serve, call, query_id))
        except EngineRefusedError as error:
            refusal = error.refusal
        except BodyTooLargeError:
            text = f"The body is larger than {self._limits.body_bytes_max} bytes"
            refusal = refused(TOO_MANY_BYTES, "TOO_MANY_BYTES", text).refusal
        except TimeoutError:
            text = f"The body did not come within {self._limits.body_s_max:g} s"
            refusal = refused(SOCKET_TIMEOUT, "SOCKET_TIMEOUT", text).refusal
        except ValueError:
            text = "The body is not what its headers say"
            refusal = refused(INCORRECT_DATA, "INCORRECT_DATA", text).refusal
        return self._sender.refusal(refusal, query_id)

    async def _body(self, request: Request) -> bytes:
        bound = self._limits.body_bytes_max
        if int(request.headers.get("content-length", "0")) > bound:
            raise BodyTooLargeError
        body = bytearray()
        async with asyncio.timeout(self._limits.body_s_max):
            async for piece in request.stream():
                body += piece
                if len(body) > bound:
                    raise BodyTooLargeError
        return bytes(body)

    def _serve(self, call: Call, query_id: str) -> Response:
        """Run the statement; this is the part that happens in a thread."""
        started = time.perf_counter_ns()
        task = read_task(call, bytes_max=self._limits.body_bytes_max)
        allowed = call.form.get("enable_http_compression", "1") != "0"
        encoding = choose_encoding(call.headers.get("accept-encoding", "")) if allowed else ""
        if task.streams:
            return self._streamed(task, query_id, encoding)
        answer = self._engine.run(task.order)
        elapsed = str(time.perf_counter_ns() - started)
        answer = replace(answer, summary={**answer.summary, "elapsed_ns": elapsed})
        return self._sender.whole(task, answer, query_id, encoding)

    def _streamed(self, task: Task, query_id: str, encoding: str) -> Response:
        stream = self._engine.stream(task.order)
        try:
            first = stream.next_piece()  # most failures come before it, as a proper status
        except BaseException:
            stream.close()
            raise
        return StreamResponse(
            stream,
            first,
            work=self._work,
            sender=self._sender,
            headers=self._sender.headers(task, query_id, encoding),
            encoding=encoding,
        )

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _FaultEndpoint:
    """Answer `POST /fault?mode=...&seconds=...&count=...`: switch what goes wrong."""

    def __init__(self, switch: FaultSwitch) -> None:
        self._switch = switch

    async def __call__(self, request: Request) -> Response:
        """Set the switch; say what it is set to."""
        form = request.query_params
        try:
            fault = Fault(form.get("mode", ""))
            seconds, count = float(form.get("seconds", "0")), int(form.get("count", "0"))
        except ValueError:
            names = ", ".join(fault.value for fault in Fault)
            return PlainTextResponse(f"mode is one of {names}\n", BAD_REQUEST)
        self._switch.fault, self._switch.seconds, self._switch.left = fault, seconds, count
        return PlainTextResponse(f"{fault.value}\n")


async def _ping(_: Request) -> Response:
    return PlainTextResponse("Ok.\n")


def create_app(statements: StatementEndpoint, switch: FaultSwitch, *, with_faults: bool) -> ASGIApp:
    """Wire the paths; `/fault` exists only when asked for."""
    routes = [
        Route("/", statements),
        Route("/ping", _ping, methods=["GET"]),
        Route("/replicas_status", _ping, methods=["GET"]),
    ]
    if with_faults:
        routes.append(Route("/fault", _FaultEndpoint(switch).__call__, methods=["POST"]))
    return LoopbackOnly(Starlette(routes=routes))
