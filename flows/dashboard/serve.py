"""Serve the dashboard over HTTP: pages, and each panel as JSON and CSV.

There is no log-in, so only this machine may ask: other hosts, and pages of other sites, get 403.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from connectors.clock import Clock
from connectors.embedded.guard import LoopbackOnly
from flows.dashboard.answer import Asker
from flows.dashboard.pages import ask_all, fault_html, make_templates, page_html
from flows.dashboard.scope import Scope, read_scope
from flows.dashboard.write import as_csv, as_json
from schemas.dashboard import Dashboard
from schemas.errors import AirsideError, ConfigError, TransientError

REFRESH_S_MAX: Final = 86_400

_DIGITS_MAX: Final = 5
_HERE: Final = Path(__file__).parent / "static"
_OWN: Final = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
_SCRIPT: Final = "plotly.min.js"
_WEEK_S: Final = 604_800
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def find_script() -> tuple[Path, str]:
    """The chart script that the package `plotly` carries, and the version of that package.

    Errors: ConfigError where it is not installed.
    """
    try:
        package = distribution("plotly")
    except PackageNotFoundError:
        package = None
    path = Path(str(package.locate_file(f"plotly/package_data/{_SCRIPT}"))) if package else None
    if package is None or path is None or not path.is_file():
        raise ConfigError(
            do="find",
            kind="script of",
            name="plotly",
            found="no such package",
            hint="install the extra `dashboard`",
        )
    return path, package.version


class Site:
    """What addresses lead to.

    Delivery: reads only, so everything may be asked again.
    """

    def __init__(
        self, asker: Asker, dashboard: Dashboard, clock: Clock, *, role: str, k: int
    ) -> None:
        self._asker, self._dashboard, self._clock = asker, dashboard, clock
        self._role, self._k = role, k
        self._templates = make_templates()
        self._script, self._version = find_script()

    def home(self, request: Request) -> Response:
        """To the first page, with what was asked."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/{self._dashboard.pages[0].page}{query}", 303)

    def page(self, request: Request) -> Response:
        """One page."""
        page = self._dashboard.by_name.get(request.path_params["page"])
        if page is None:
            return self._fault("there is no such page", 404)
        try:
            scope, refresh_s = self._scope(request), _refresh_s(request)
        except ConfigError as fault:
            return self._fault(str(fault), 400)
        shown = ask_all(self._asker, page, scope)
        away = all(one.answer is None for one in shown)
        text = page_html(
            self._templates,
            self._dashboard,
            page,
            scope,
            shown,
            campaigns=[] if away else self._campaigns(scope),
            refresh_s=refresh_s,
            role=self._role,
            version=self._version,
        )
        return HTMLResponse(text, 503 if away else 200)

    def panel(self, request: Request) -> Response:
        """One panel as a file."""
        page = self._dashboard.by_name.get(request.path_params["page"])
        name, _, form = request.path_params["file"].rpartition(".")
        panels = {panel.panel: panel for panel in page.panels} if page else {}
        if name not in panels or form not in {"json", "csv"}:
            return PlainTextResponse("there is no such panel\n", 404)
        try:
            scope = self._scope(request)
        except ConfigError as fault:
            return PlainTextResponse(f"{fault}\n", 400)
        try:
            answer = self._asker.answer(panels[name], scope)
        except AirsideError as fault:
            status = {TransientError: 503, ConfigError: 403}.get(type(fault), 500)
            return PlainTextResponse(f"{fault}\n", status)
        if form == "json":
            return Response(as_json(answer), media_type="application/json")
        named = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return Response(as_csv(answer), media_type="text/csv; charset=utf-8", headers=named)

    async def static(self, request: Request) -> Response:
        """Style and scripts."""
        name = request.path_params["file"]
        if name == _SCRIPT:
            kept = {"Cache-Control": f"private, max-age={_WEEK_S}, immutable"}
            return FileResponse(self._script, media_type="text/javascript", headers=kept)
        if name in _OWN:
            return FileResponse(_HERE / name, media_type=_OWN[name])
        return PlainTextResponse("there is no such file\n", 404)

    async def health(self, _request: Request) -> Response:
        """That the server runs; whether ClickHouse does, pages tell."""
        return PlainTextResponse("ok\n")

    def _scope(self, request: Request) -> Scope:
        asked = dict(request.query_params)
        return read_scope(asked, now_ms=self._clock.now_ms(), k=self._k)

    def _campaigns(self, scope: Scope) -> list[str]:
        try:
            return self._asker.campaigns(scope)
        except AirsideError:  # the panels say what is wrong
            return []

    def _fault(self, fault: str, status: int) -> Response:
        return HTMLResponse(fault_html(self._templates, self._dashboard, fault), status)


def make_app(asker: Asker, dashboard: Dashboard, clock: Clock, *, role: str, k: int) -> Starlette:
    """The application.

    `role` is shown, `k` is the least number of people that a line may be about.
    Errors: ConfigError without the chart script.
    """
    site = Site(asker, dashboard, clock, role=role, k=k)
    routes = [
        Route("/", site.home),
        Route("/healthz", site.health),
        Route("/static/{file}", site.static),
        Route("/{page}", site.page),
        Route("/{page}/{file}", site.panel),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_WithHeaders), Middleware(LoopbackOnly)])


class _WithHeaders:
    """An ASGI wrapper that tells browsers what no page of ours ever needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_more)


def _refresh_s(request: Request) -> int:
    text = request.query_params.get("refresh", "") or "0"
    if not (
        text.isascii()
        and text.isdigit()
        and len(text) <= _DIGITS_MAX
        and int(text) <= REFRESH_S_MAX
    ):
        raise ConfigError(
            do="read",
            kind="refresh",
            found="no number of seconds",
            expected=f"0 to {REFRESH_S_MAX}",
        )
    return int(text)
