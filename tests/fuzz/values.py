"""The values that break things, and JSON as text, so that what no encoder would write can be sent too."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

DEEP = 2_000


@dataclass(frozen=True, slots=True)
class Literal:
    """JSON text as it stands, valid or not."""

    text: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """An object by its members, in order, names that come twice included."""

    members: tuple[tuple[str, Any], ...]


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1.0, 1.5, -0.0, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**40,
    Literal("1e400"), Literal("-1e400"), Literal("NaN"), Literal("Infinity"), Literal("01"), Literal("1e0"),
    Literal(""), Literal("0x1"), Literal("1" * 5_000), Literal("[" * DEEP), Literal("[" * DEEP + "]" * DEEP),
    Literal('{"a":' * DEEP + "1" + "}" * DEEP), Literal('"\\ud800"'), Literal('"\\udc00\\ud800"'), Literal('"\\u0000"'),
    Literal("'x'"), Literal('"unended'), Literal("nul"), "", " ", "1", "1.0", "\0", "\u202etxt", "\u0661", "true",
    "null", "a.b", "__proto__", "$where", "../../etc/passwd", "' OR 1=1 --", "{{7*7}}", "é" * 64, "\U0001f3ab" * 64,
    "x" * 64, "x" * 65, "x" * 10_240, [], [[]], [None], [1, 1], [1, 2, 2], [0], [-1], [2**53], ["1"], [True], [1.0],
    [51], [9_999_999], [1, [2]], list(range(1, 52)), list(range(1, 10)), {}, {"$ne": None}, {"$gt": ""}, {"a.b": 1},
    {"__proto__": {"userId": 1}},
)  # fmt: skip

NAMES = ("__proto__", "constructor", "$where", "a.b", "", "\0", "userid", "user_id", "USERID", "id", "amount", "status")

HEADER_VALUES: tuple[bytes, ...] = (
    b"", b" ", b"x", b"x" * 64, b"x" * 65, b"x" * 4_000, b"a b", b"a,b", b"\t", b"\xff\xfe", b"\xed\xa0\x80",
    "ключ".encode(), b'"', b"%00", b"../..", b"{}", b"null", b"0", b"-1", b"1e400", b"test-token ", b"TEST-TOKEN",
    b"application/json;charset=utf-7", b"application/JSON", b"application/json, text/plain", b"text/plain",
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/json;;;", b"a/\xff", b"/",
    b"00000000-0000-0000-0000-000000000000", b"gzip", b"identity", b"chunked",
)  # fmt: skip

PATH_VALUES: tuple[str, ...] = (
    "0", "-1", "1.0", "+1", "01", "%31", "9007199254740992", "18446744073709551616", "9" * 400, "NaN", "null", "%00",
    "%ff", "%ed%a0%80", "%d9%a1", "%2e%2e", "..", "a%2fb", "a%3fb", "a%23b", "a%0d%0ab", "%", "%zz", "%25", "x" * 65,
    "x" * 4_000, "r-" + "0" * 32, "r-" + "0" * 32 + "-1", "r--1", "r-1-" + "9" * 400, "-", "$ne", "a.b", "__proto__",
    "'", "%7b%22%24ne%22%3anull%7d", "*", "@", ":", ";a=b", "1;a=b", "1?limit=-1", "1?limit=1&limit=2", "1?a=%ff",
)  # fmt: skip

anything = st.one_of(
    st.sampled_from(VALUES),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists),
)


def written(value: Any) -> str:
    """JSON text of a value that may hold what JSON cannot say."""
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{written(inner)}" for name, inner in value.members) + "}"
    if isinstance(value, dict):
        return written(Pairs(tuple(value.items())))
    return json.dumps(value)
