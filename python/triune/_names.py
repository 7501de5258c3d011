"""Identifiers in SQL."""

from __future__ import annotations

import re as _re

_PART = _re.compile(r'"(?:[^"]|"")*"|[^."]+')


def identifier(name: str) -> str:
    '''A name in quotes, whatever is in it.

    >>> identifier('say "hi" now')
    '"say ""hi"" now"'
    '''
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """A table's name as a user writes it: ``docs``, ``Public.Docs`` (in small letters, as in SQL), ``"My table"``.

    >>> qualified("public.Docs"), qualified('"a.b"')
    ('"public"."docs"', '"a.b"')
    """
    parts = _PART.findall(name)
    if not parts:
        raise ValueError("a table needs a name")
    return ".".join(part if part.startswith('"') else identifier(part.lower()) for part in parts)
