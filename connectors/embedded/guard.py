"""Refuse what a web page could send to this loopback server: it has no access control.

A page that makes a name point here (DNS rebinding) is known by its Host header, one that sends
a plain form or fetch by Origin or Sec-Fetch-Site. No CORS header is ever sent.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("127.0.0.1.example.org")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def refusal_of(headers: dict[bytes, bytes]) -> str:
    """Say in one word what is wrong with the headers; empty when they are fine."""
    if not _names_loopback("//" + headers.get(b"host", b"").decode("latin-1")):
        return "Host"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and not _names_loopback(origin):
        return "Origin"
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return "Sec-Fetch-Site"
    return ""


class LoopbackOnly:
    """An ASGI wrapper that answers 403 before the application sees the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] == "http":
            wrong = refusal_of(dict(scope["headers"]))
            if wrong:
                text = f"refused: the header {wrong} does not name loopback\n"
                await PlainTextResponse(text, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)
