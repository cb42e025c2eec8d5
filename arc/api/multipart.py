"""The one file of a multipart form (RFC 7578), out of a body that was read whole."""

from __future__ import annotations

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from arc.api.heads import Head
from arc.errors import InvalidRequest

PARTS_MAX = 20

FILE_FIELD = "file"


def file_boundary(head: Head) -> bytes | None:
    """The boundary of a form, None when the body is the file itself. Raises InvalidRequest."""
    kind, options = parse_options_header(head.header(b"content-type"))
    if kind.lower() != "multipart/form-data":
        return None
    boundary = options.get("boundary", "")
    if not 1 <= len(boundary) <= 200:
        raise InvalidRequest("multipart/form-data without a boundary")
    return boundary.encode("latin-1", "replace")


def extract_file(body: bytes, boundary: bytes) -> bytes:
    """Content of the field ``file``. Raises InvalidRequest."""
    decoder = MultipartDecoder(boundary, max_parts=PARTS_MAX)
    chunks: dict[str, list[bytes]] = {}
    current = ""
    try:
        decoder.receive_data(body)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue):
            match event:
                case File() | Field():
                    current = event.name
                    chunks.setdefault(current, [])
                case Data():
                    chunks[current].append(event.data)
                case NeedData():
                    raise InvalidRequest("the multipart form is cut short")
    except ValueError as error:
        raise InvalidRequest(f"the body is not a multipart form: {error}") from error
    if FILE_FIELD not in chunks:
        raise InvalidRequest("the form has no field named 'file'")
    return b"".join(chunks[FILE_FIELD])
