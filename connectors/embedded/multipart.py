"""Take a multipart/form-data body apart: long parameters and external tables come this way."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message


@dataclass(frozen=True, slots=True)
class Part:
    """One field; `file_name` is empty for a plain value."""

    name: str
    file_name: str
    body: bytes


def boundary_of(content_type: str) -> bytes:
    """Read the boundary from a `Content-Type`; empty when it is no multipart form.

    >>> boundary_of('multipart/form-data; boundary="x1"')
    b'x1'
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() != "multipart/form-data":
        return b""
    return str(header.get_param("boundary", "")).encode("latin-1", "replace")


def split_parts(body: bytes, boundary: bytes) -> list[Part]:
    """Split a form into its parts; bytes are kept as they are.

    Errors: `ValueError` when the body does not follow its boundary.
    """
    first, *sections = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if first or not sections or not sections[-1].startswith(b"--"):
        raise ValueError("multipart")
    parts = []
    for section in sections[:-1]:
        head, blank, content = section.partition(b"\r\n\r\n")
        if not blank:
            raise ValueError("multipart")
        header = Message()
        for line in head.strip().split(b"\r\n"):
            key, _, value = line.decode("utf-8", "replace").partition(":")
            header[key.strip()] = value.strip()
        name = str(header.get_param("name", "", header="content-disposition"))
        file_name = str(header.get_param("filename", "", header="content-disposition"))
        parts.append(Part(name, file_name, content))
    return parts
