"""What InfluxDB 1.x clients ask before they write: `/ping`, `CREATE DATABASE`, `SHOW DATABASES`. No other InfluxQL.

Shapes as a real InfluxDB 1.6 gives them (ecosystem 1.2). Anything else is refused with the sentence that SQL is asked
elsewhere: an empty answer would look like an empty database.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from arc.api.deps import Deps
from arc.api.principal import Permission, Principal
from arc.api.replies import Headers, Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route
from arc.api.schemas import ANYTHING, INTEGER, STRING, array, empty_answer, json_answer, obj
from arc.catalog.commands import CreateDatabase
from arc.catalog.names import check_database_name
from arc.errors import Forbidden, InvalidRequest
from arc.security.rights import allowed_within
from arc.telemetry import rfc3339_ms

_CREATE = re.compile(r'\s*CREATE\s+DATABASE\s+(?:"([^"]*)"|([^\s;"]+))(\s+WITH\s+[^;]*)?\s*;?\s*', re.IGNORECASE)
_SHOW = re.compile(r"\s*SHOW\s+DATABASES\s*;?\s*", re.IGNORECASE)

INFLUXQL_CHARS_MAX = 4096


class Influx:
    """The two endpoints that have no other name."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        q = Parameter(
            name="q", place="query", about="`CREATE DATABASE x` or `SHOW DATABASES`.",
            schema={"type": "string", "maxLength": INFLUXQL_CHARS_MAX},
        )  # fmt: skip
        found = {200: json_answer("InfluxDB's envelope.", obj(
            {"results": array(obj({"statement_id": INTEGER}, {"series": array(ANYTHING)}))}))}  # fmt: skip
        return (
            Route(
                method="GET", path="/ping", name="ping", tag="influxdb", permission=Permission.PUBLIC, unlimited=True,
                summary="InfluxDB's sign of life", view=self.ping, answers={204: empty_answer("Alive.")},
            ),
            Route(
                method="GET", path="/query", name="influxql_get", tag="influxdb", permission=Permission.ANY,
                summary="SHOW DATABASES in InfluxQL", view=self.query, parameters=(q,), answers=found,
            ),
            Route(
                method="POST", path="/query", name="influxql_post", tag="influxdb", permission=Permission.ANY,
                summary="CREATE DATABASE in InfluxQL", view=self.query, parameters=(q,), answers=found,
                body=RequestBody(
                    content={"application/x-www-form-urlencoded": obj({}, {"q": STRING})}, required=False
                ),
            ),
        )  # fmt: skip

    async def ping(self, call: Call) -> Reply:
        """204 with the version headers that `influxdb-client` reads."""
        return Reply(204, headers=self._headers())

    async def query(self, call: Call) -> Reply:
        """Raises InvalidRequest, Forbidden.

        Making a database needs only ``write`` here: a write to an unknown one makes it as well, and Telegraf's token
        has no more. Listing needs ``read``.
        """
        statement = call.head.query().get("q") or _form_field(call.body, "q")
        if not statement:
            raise InvalidRequest('missing required parameter "q"')
        if len(statement) > INFLUXQL_CHARS_MAX:
            raise InvalidRequest(f"statement is longer than {INFLUXQL_CHARS_MAX} characters")
        if _SHOW.fullmatch(statement):
            call.principal.require(Permission.READ)
            return self._results(series=[self._databases(call.principal)])
        create = _CREATE.fullmatch(statement)
        if create is None:
            raise InvalidRequest("only CREATE DATABASE and SHOW DATABASES are answered here; SQL goes to /api/v1/query")
        call.principal.require(Permission.WRITE)
        name = create[1] if create[1] is not None else create[2]
        if call.principal.is_limited and not allowed_within(call.principal, "write", name):
            raise Forbidden(f"Permission denied: write required on database {name!r}")
        await self._create(name)
        return self._results()

    async def _create(self, name: str) -> None:
        check_database_name(name)
        command = CreateDatabase(name=name, created_us=self._deps.clock.wall_us(), if_missing=True)
        (await self._deps.proposer.propose(command)).unwrap()

    def _databases(self, principal: Principal) -> dict[str, object]:
        names = sorted(name for name in principal.seen(self._deps.catalog()).databases if name[0] not in "._")
        return {"name": "databases", "columns": ["name"], "values": [[name] for name in names]}

    def _results(self, **parts: object) -> Reply:
        return json_reply(200, {"results": [{"statement_id": 0, **parts}]}, self._headers())

    def _headers(self) -> Headers:
        request_id = f"{rfc3339_ms(self._deps.clock.wall_us())}-{self._deps.rng.bytes(4).hex()}"
        return (
            # "1.8" tells clients which dialect to speak; the build names us.
            (b"x-influxdb-version", b"1.8-arc-" + self._deps.version.encode("ascii", "replace")),
            (b"x-influxdb-build", b"arc"),
            (b"request-id", request_id.encode()),
        )


def _form_field(body: bytes, name: str) -> str:
    if not body:
        return ""
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise InvalidRequest("request body is not a form") from error
    return next((value for key, value in pairs if key == name), "")
