"""A client's way to a running node: where it is, who asks, and what its refusals mean to somebody at a keyboard."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from arc import __version__
from arc.cli.exits import ERROR, UNREACHABLE, USAGE, Failure

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 600.0
"""Longer than the longest query a node allows by default (300 s): its own limit should be the one that speaks."""

_AUTHORITY: ContextVar[str] = ContextVar("authority", default="")
"""Set by `trusting` for the run of one command."""

LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@contextmanager
def trusting(ca_file: str) -> Iterator[None]:
    """Clients that are opened in this block believe servers whose certificate is of this authority, and no others.

    A PEM file; empty: the system's authorities, or what ``SSL_CERT_FILE`` names.
    """
    before = _AUTHORITY.set(ca_file)
    try:
        yield
    finally:
        _AUTHORITY.reset(before)


def open_client(endpoint: str, token: str, *, answer_seconds: float = ANSWER_SECONDS) -> httpx.Client:
    """An HTTP client for one node. A proxy of the environment is honoured, but never for this machine itself.

    Raises Failure: the address is none, or the file of the authority (see `trusting`) cannot be used.
    """
    import httpx

    headers = {"User-Agent": f"arc-cli/{__version__} ({platform.system().lower()}/{platform.machine()})"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.Client(
        base_url=_address(endpoint),
        headers=headers,
        timeout=httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS),
        mounts=dict.fromkeys(LOOPBACK),
        verify=_verification(_AUTHORITY.get()),
    )


def _verification(ca_file: str) -> ssl.SSLContext | bool:
    """Raises Failure."""
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        said = error.strerror if error.strerror and not isinstance(error, ssl.SSLError) else "it holds no certificate"
        raise Failure(
            f"{ca_file} cannot be used as an authority: {said}",
            next_step="--ca-file and ARC_CA_FILE name a PEM file with the certificate of the authority.",
            exit_code=USAGE,
            code="bad_ca_file",
        ) from error


def _address(endpoint: str) -> httpx.URL:
    """``host:port`` is short for ``http://host:port``. Raises Failure."""
    import httpx

    try:
        url = httpx.URL(endpoint if "://" in endpoint else f"http://{endpoint}")
    except httpx.InvalidURL as error:
        raise _bad_endpoint(endpoint, str(error)) from error
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host:
        raise _bad_endpoint(endpoint, "it needs http or https, and a host")
    return url


@contextmanager
def reaching(endpoint: str) -> Iterator[None]:
    """Turn what HTTP raises into a `Failure`: the node is not there, did not answer, or broke off."""
    import httpx

    try:
        yield
    except httpx.ConnectError as error:
        raise Failure(
            f"cannot reach a node at {endpoint}: {_reason(error)}",
            next_step="Start one with `arc serve`, or name another with --endpoint or ARC_ENDPOINT.",
            exit_code=UNREACHABLE,
            code="unreachable",
        ) from error
    except httpx.TimeoutException as error:
        raise Failure(
            f"the node at {endpoint} did not answer in time",
            next_step="Ask again, or look at its log: GET /api/v1/logs.",
            exit_code=UNREACHABLE,
            code="timeout",
        ) from error
    except httpx.TransportError as error:
        raise Failure(
            f"the connection to {endpoint} broke off: {_reason(error)}",
            effect="What came so far is not the whole answer.",
            next_step="Ask again, or look at its log: GET /api/v1/logs.",
            exit_code=UNREACHABLE,
            code="cut_off",
        ) from error


def _bad_endpoint(endpoint: str, error: str) -> Failure:
    return Failure(
        f"{endpoint!r} is not the address of a node: {error}",
        next_step="Write it like http://127.0.0.1:8000.",
        exit_code=USAGE,
        code="bad_endpoint",
    )


def _reason(error: BaseException) -> str:
    root: BaseException = error
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, ssl.SSLError):
        return f"{root.reason or root} (a private authority is named by --ca-file or ARC_CA_FILE)"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root) or type(root).__name__


def refusal(response: httpx.Response) -> Failure:
    """The failure that an error answer means. The body must have been read."""
    body = answer_body(response)
    said = str(body.get("error") or body.get("message") or response.text[:500].strip() or response.reason_phrase)
    code = str(body.get("code") or f"http_{response.status_code}")
    match response.status_code:
        case 401:
            return Failure(said, next_step="Give a token with --token or ARC_TOKEN.", code=code)
        case 403:
            return Failure(said, next_step="Use a token with the permission that is named.", code=code)
        case 404 if said.startswith("Cannot "):
            return Failure(
                f"this server does not have {response.request.url.path}",
                next_step="Is it Arc, and as new as this program? `arc version` and GET /health tell.",
                code=code,
            )
        case 413:
            return Failure(said, next_step="Send smaller pieces, or raise the limit in [server].", code=code)
        case 429 | 503 | 504:
            return Failure(said, next_step="Try again later.", exit_code=UNREACHABLE, code=code)
        case _:
            return Failure(said, exit_code=ERROR, code=code)


def answer_body(response: httpx.Response) -> dict[str, object]:
    """The JSON object of an answer; empty when it is none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
