"""Errors of programs and of the world, in three families named after what happens next.

A bad *message* is never an error: it is a value with a door (see `schemas.fates`).
"""

from __future__ import annotations


class AirsideError(Exception):
    """Something stopped the work; the message says what, where, and what to do.

    Shapes: `could not <do> <kind> "<name>" <where>: found <found>; expected <expected>; <hint>`.
    Errors: parts that were not given are left out of the sentence.

    >>> str(ConfigError(do="read", kind="policy", name="p.yaml", found="no file", hint="name one"))
    'could not read policy "p.yaml": found no file; name one'
    """

    exit_code = 1

    def __init__(
        self,
        *,
        do: str,
        kind: str,
        name: str = "",
        where: str = "",
        found: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        self.do = do
        self.kind = kind
        self.name = name
        self.where = where
        self.found = found
        self.expected = expected
        self.hint = hint
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        head = f"could not {self.do} {self.kind}"
        if self.name:
            head += f' "{self.name}"'
        if self.where:
            head += f" {self.where}"
        tail = [
            text
            for text in (
                f"found {self.found}" if self.found else "",
                f"expected {self.expected}" if self.expected else "",
                self.hint,
            )
            if text
        ]
        return f"{head}: {'; '.join(tail)}" if tail else head


class ConfigError(AirsideError):
    """Stop before start: the program was told something that cannot work."""

    exit_code = 78  # EX_CONFIG of sysexits(3)


class TransientError(AirsideError):
    """Retry a bounded number of times, then stop: the world may come back."""

    exit_code = 75  # EX_TEMPFAIL of sysexits(3)


class PermanentError(AirsideError):
    """Stop now: going on would lose, double or leak a message."""

    exit_code = 70  # EX_SOFTWARE of sysexits(3)
