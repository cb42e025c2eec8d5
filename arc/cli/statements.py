"""Where one SQL statement ends and the next begins: a semicolon outside of quotes and comments.

Only that. What a statement means is the node's to know.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""'[^']*+'?+           # text, perhaps not closed yet; a doubled quote is two texts side by side
      | "[^"]*+"?+           # a name
      | --[^\n]*+            # a comment to the end of the line
      | /\*(?:(?!\*/).)*+(?:\*/)?+
      | ;
      | [^'"\-/;]++ | .      # everything else
    """,
    re.VERBOSE | re.DOTALL,
)


def split(text: str) -> tuple[list[str], str]:
    """(Statements that are over, without their semicolons; the rest). Empty statements are left out."""
    done: list[str] = []
    start = 0
    for token in _TOKEN.finditer(text):
        if token.group() == ";":
            if is_something(text[start : token.start()]):
                done.append(text[start : token.start()].strip())
            start = token.end()
    return done, text[start:]


def is_something(text: str) -> bool:
    """Whether there is more in it than white space and comments."""
    return any(not part.isspace() and not part.startswith(("--", "/*")) for part in _TOKEN.findall(text))


def is_open(text: str) -> bool:
    """Whether a shell should ask for another line: something was begun and its semicolon is still to come."""
    stripped = text.strip()
    if not stripped or stripped.startswith("\\"):
        return False
    rest = split(text)[1]
    return is_something(rest)
