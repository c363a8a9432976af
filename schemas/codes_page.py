"""The page about refusal codes, made from their list."""

from __future__ import annotations

from schemas.codes import CODES, Door


def write_codes_page() -> str:
    """Make the text of docs/codes.md."""
    lines = [
        "# Refusal codes",
        "",
        "Written by `python -m schemas.contracts_build`; edit `schemas/codes.py`, not this page.",
        "",
        "Every message that does not leave by the routed door has a row in the table `quarantine`",
        "with its code, a pointer and a reason. The pointer is RFC 6901: into the ticket's headers",
        "for T1xx, T2xx and T4xx to T6xx, into the body for T302; empty means the whole. Neither",
        "ever quotes a value. Warnings stop nothing: they are in the column `warnings` of `facts`.",
        "",
        "| code | door | meaning |",
        "| --- | --- | --- |",
    ]
    for name, code in CODES.items():
        door = "routed, with a warning" if code.door is Door.ROUTED else code.door.value
        lines.append(f"| {name} | {door} | {code.meaning} |")
    return "\n".join([*lines, ""])
