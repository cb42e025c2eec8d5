"""Writes the pages of ``docs/`` that are made from code (``make docs``); `tests/test_docs.py` fails when one is old.

What a key means is the string below its field, so there is one place to write it.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path

from arc.config import SECTIONS, describe, load

HERE = Path(__file__).resolve().parent

PREFACE = """\
# Configuration

<!-- made by `make docs` from the dataclasses that arc/config.py composes; edit the strings there -->

Later beats earlier: default, `arc.toml`, environment, flag. `arc.toml` is looked for in the working directory, or given
with `arc serve --config FILE`. The variable of a key is `ARC_<SECTION>_<KEY>` in capitals: `ARC_SERVER_PORT=9000`.

A section, key or `ARC_*` variable that is not known stops the start, with the place and the nearest known name; all
problems are told at once. `arc doctor` shows every value in force and where it came from.

Sizes are bytes or `64KiB`, `64MiB`, `2GiB` (powers of 1024; `64MB` means the same). Durations are seconds or `250ms`,
`5s`, `10m`, `2h`, `7d`. Lists are TOML arrays, or comma separated in a variable.

```toml
[node]
data_dir = "/var/lib/arc"

[server]
host = "0.0.0.0"
tls_cert_file = "/etc/arc/server.pem"
tls_key_file = "/etc/arc/server.key"

[log]
format = "json"
```
"""


def configuration() -> str:
    """Return the page of all sections and keys."""
    parts = [PREFACE]
    rows = describe(load(environment={}))
    for section, cls in SECTIONS.items():
        parts.append(
            f"\n## `[{section}]`\n\n{_about(section, cls)}\n\n| Key | Default | Accepts | Meaning |\n|---|---|---|---|"
        )
        meanings = _strings_below_fields(cls)
        for row in rows:
            if row.section == section:
                default = f"`{row.default}`" if row.default else "–"
                parts.append(f"| `{row.key}` | {default} | {row.expects} | {meanings.get(row.key, '')} |")
    return "\n".join(parts) + "\n"


PAGES = {"configuration.md": configuration}


def _about(section: str, cls: type) -> str:
    """The docstring of the section without the words that name it, in Markdown."""
    text = _markdown(inspect.getdoc(cls) or "")
    lead = f"Section `[{section}]`"
    text = text.removeprefix(lead).lstrip(":,. ")
    return text[:1].upper() + text[1:]


def _strings_below_fields(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(_markdown(text).split()).replace("|", "\\|")
    return found


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def main() -> None:
    """Write every page that changed and name it."""
    for name, make in PAGES.items():
        page, path = make(), HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")
            sys.stdout.write(f"docs/{name} rewritten\n")


if __name__ == "__main__":
    main()
