"""Seal what may not be read: a refused message, kept so that it can be repaired."""

from __future__ import annotations

import base64
import os
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import ConfigError, PermanentError

KEY_BYTES = 32
_NONCE_BYTES = 12


class Sealer:
    """Encrypts with AES-256-GCM under one key; without a key nothing is kept.

    Errors: ConfigError for a key that is not 32 bytes in base64.

    >>> sealer = Sealer(base64.b64encode(bytes(32)).decode())
    >>> sealer.open(sealer.seal(b"body", about="t/0/1") or "", about="t/0/1")
    b'body'
    """

    def __init__(self, key: str | None) -> None:
        if key is None:
            self._cipher = None
            return
        try:
            raw = base64.b64decode(key, validate=True)
        except ValueError:
            raw = b""
        if len(raw) != KEY_BYTES:
            raise ConfigError(
                do="use",
                kind="key",
                name="AIRSIDE_QUARANTINE_KEY",
                found="something else",
                expected=f"{KEY_BYTES} bytes in base64",
                hint="make one with `airside key`",
            )
        self._cipher = AESGCM(raw)

    def seal(self, body: bytes, *, about: str) -> str | None:
        """Encrypt a body; None without a key. `about` is bound to it: open needs the same."""
        if self._cipher is None:
            return None
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, body, about.encode())).decode()

    def open(self, sealed: str, *, about: str) -> bytes:
        """Decrypt what `seal` gave.

        Errors: PermanentError when it was changed, moved to another message, or made with
        another key.
        """
        try:
            raw = base64.b64decode(sealed)
            if self._cipher is not None:
                return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            pass
        raise PermanentError(
            do="open",
            kind="sealed message",
            name=about,
            found="another key, or changed bytes",
            hint="set AIRSIDE_QUARANTINE_KEY to the key it was sealed with",
        )


def message_bytes(
    key: bytes | None, headers: list[tuple[str, bytes | None]] | None, value: bytes | None
) -> bytes:
    """A whole message as bytes, to be sealed: JSON with base64 for each part.

    >>> message_bytes(b"k", [("a", None)], b"v")
    b'{"key":"aw==","headers":[["a",null]],"value":"dg=="}'
    """

    def text(part: bytes | None) -> str | None:
        return None if part is None else base64.b64encode(part).decode()

    whole: dict[str, Any] = {
        "key": text(key),
        "headers": [[name, text(part)] for name, part in headers or ()],
        "value": text(value),
    }
    return orjson.dumps(whole)
