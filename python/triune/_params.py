"""Parameters in the text of statements: ``?``, ``$1`` and ``$name``."""

from __future__ import annotations

import functools as _functools
import itertools as _itertools
import re as _re
from typing import Any, Dict, List, Tuple

_TOKENS = _re.compile(
    r"""
    (?P<skip> --[^\n]* | /\*.*?\*/ | \s+ )
  | (?P<quoted> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
              | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ )
  | (?P<param> \$\w+ )
  | (?P<word> [^\W\d]\w* )
  | (?P<number> \d[\w.]* )
  | (?P<query> \?(?![|&?]) )
  | (?P<other> . )
    """,
    _re.VERBOSE | _re.DOTALL,
)

# Words before a `?` that no operand ends with: what follows is an operand, so the `?` is one.
_BEFORE = frozenset(
    """ALL AND ANY AS BETWEEN BY CASE DISTINCT ELSE ESCAPE FETCH FROM HAVING ILIKE IN INTERVAL IS LIKE LIMIT NOT
    OFFSET ON OR RETURNING SELECT SET SIMILAR SOME THEN TO TOP USING VALUES WHEN WHERE""".split()
)

# Words after a `?` that no operand begins with.
_AFTER = frozenset(
    """AND AS ASC BETWEEN COLLATE CROSS DESC ELSE END ESCAPE EXCEPT FETCH FOR FROM FULL GROUP HAVING ILIKE IN INNER
    INTERSECT IS JOIN LEFT LIKE LIMIT NATURAL NOT NULLS OFFSET ON OR ORDER QUALIFY RETURNING RIGHT SIMILAR THEN
    UNION USING WHEN WHERE WINDOW""".split()
)


def _tokens(sql: str) -> List[Tuple[str, str]]:
    return [(m.lastgroup if m.lastgroup != "tag" else "quoted", m.group()) for m in _TOKENS.finditer(sql)]  # type: ignore[misc]


def _is_operator(before: Tuple[str, str], after: Tuple[str, str]) -> bool:
    """Whether a ``?`` between these tokens is JSON's operator: it stands between two operands."""
    kind, text = before
    left = kind in ("quoted", "number", "param", "query") or text in (")", "]")
    left = left or (kind == "word" and text.upper() not in _BEFORE)
    kind, text = after
    right = kind in ("quoted", "number", "param", "query") or text == "("
    right = right or (kind == "word" and text.upper() not in _AFTER)
    return left and right


@_functools.lru_cache(maxsize=256)
def numbered(sql: str) -> str:
    """The statement with ``$1``, ``$2`` … in the place of ``?``.

    >>> numbered("SELECT ? + 1, doc ? 'key', '?' WHERE a = ?")
    "SELECT $1 + 1, doc ? 'key', '?' WHERE a = $2"
    """
    if "?" not in sql:
        return sql
    tokens = _tokens(sql)
    solid = [i for i, (kind, _) in enumerate(tokens) if kind != "skip"]
    out = [text for _, text in tokens]
    count = 0
    for at, i in enumerate(solid):
        if tokens[i][0] != "query":
            continue
        before = tokens[solid[at - 1]] if at else ("other", "(")
        after = tokens[solid[at + 1]] if at + 1 < len(solid) else ("other", ")")
        if not _is_operator(before, after):
            count += 1
            out[i] = f"${count}"
    return "".join(out)


def renamed(sql: str, names: Dict[str, str]) -> str:
    """The statement with other names of parameters.

    >>> renamed("SELECT $1, '$1', $a", {"1": "p1"})
    "SELECT $p1, '$1', $a"
    """
    out = []
    for kind, text in _tokens(sql):
        if kind == "param" and text[1:] in names:
            text = "$" + names[text[1:]]
        out.append(text)
    return "".join(out)


_COUNTER = _itertools.count(1)


def named(sql: str, params: Any) -> Tuple[str, Dict[str, Any]]:
    """The statement with all its parameters named, so that it can stand beside others."""
    if not params:
        return sql, {}
    if isinstance(params, dict):
        return sql, params
    names = {str(i + 1): f"p{next(_COUNTER)}" for i in range(len(params))}
    return renamed(sql, names), {names[str(i + 1)]: value for i, value in enumerate(params)}


def merged(sql: str, params: Dict[str, Any], others: Dict[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """The statement with those of its parameters renamed that ``others`` gives other values."""
    clashes = {name: f"{name}_{next(_COUNTER)}" for name in params if name in others and others[name] is not params[name]}
    if not clashes:
        return sql, params
    return renamed(sql, clashes), {clashes.get(name, name): value for name, value in params.items()}


def words(sql: str) -> List[str]:
    """The names in a text, in small letters."""
    return [t.strip('"').lower() for kind, t in _tokens(sql) if kind == "word" or t.startswith('"')]


def ends_in_order(sql: str) -> bool:
    """Whether a query ends in an ORDER BY of its own, so that a LIMIT can be written behind it.

    >>> ends_in_order("SELECT a FROM t ORDER BY a"), ends_in_order("SELECT a FROM (SELECT 1 AS a ORDER BY a) t")
    (True, False)
    >>> ends_in_order("SELECT a FROM t ORDER BY a LIMIT 3")
    False
    """
    depth, ordered, before = 0, False, ""
    for kind, text in _tokens(sql):
        if kind == "skip":
            continue
        word = text.upper() if kind == "word" else text
        if word in ("(", "["):
            depth += 1
        elif word in (")", "]"):
            depth -= 1
        elif depth == 0:
            if before == "ORDER" and word == "BY":
                ordered = True
            elif word in ("LIMIT", "OFFSET", "FETCH", "FOR", "UNION", "INTERSECT", "EXCEPT"):
                ordered = False
        before = word
    return ordered
