"""Ways to damage a body: any bytes, words of a text, fields of a message."""

from random import Random

import cramjam

from tests.fuzz import wire

_BYTES = (
    0,
    1,
    9,
    10,
    13,
    32,
    34,
    35,
    44,
    45,
    46,
    47,
    58,
    61,
    91,
    92,
    93,
    101,
    123,
    125,
    127,
    128,
    255,
)
_JSON_WORDS = [
    *(b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"false", b"-0", b"-0.0", b"01", b"1."),
    *(b".5", b"+1", b"1e5", b"1E+5", b"1e", b"1e400", b"-1e400", b"1e-400", b"9" * 25, b"9" * 320),
    *(b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"1" * 4400),
    *(b"-9223372036854775808", b"-9223372036854775809", b"1.0", b"0.1e1", b"1e15", b"123456789.5"),
    *(b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\ude00"', b'"\\ud800x"', b"\\u0000"),
    *(b'"\\/\\b\\f\\n\\r\\t"', b'"\\x"', b'"\\u12"', b"\\", b'"', b'""', b"\xff", b"\xed\xa0\x80"),
    *(
        b"\xc3\xa9",
        b"\xef\xbb\xbf",
        b"\0",
        b"\x1f",
        b"\x7f",
        b"\xe2\x80\xa8",
        b"\x0b",
        b"\x0c",
        b"\xa0",
    ),
    *(b"{}", b"[]", b"[[]]", b'{"a":{}}', b"[1,]", b"{,}", b",", b":", b"{", b"}", b"[", b"]"),
    *(b"//", b"/**/", b"'a'", b"'", b"tru", b" ", b"\n", b"[" * 60 + b"]" * 60),
]
_METRIC_WORDS = [
    *(b'"name":"a",', b'"value":1,', b'"value":"1",', b'"labels":null,', b'"labels":{"a":1},'),
    *(b'"labels":{"a":"b","a":"c"},', b'"timestamp":null,', b'"timestamp":1e15,', b'"name":1,'),
    *(b'"metric_type":"counter",', b'"metric_type":null,', b'"tenant_id":"t",', b'"tenant_id":1,'),
    *(b'"n\\u0061me":"z",', b'"l\\u0061bels":{"b":"c"},', b'"x":[{"y":"\\ud800"}],', b'"x":1e999,'),
]
_OTLP_WORDS = [
    *(b'"asInt":"1",', b'"asDouble":1,', b'"asInt":null,', b'"asInt":1.0,', b'"asInt":"1.0",'),
    *(b'"asInt":"-0",', b'"asDouble":"1e5",', b'"asDouble":"1.",', b'"asDouble":"+1",'),
    *(b'"timeUnixNano":1e18,', b'"timeUnixNano":"",', b'"timeUnixNano":true,', b'"flags":1,'),
    *(b'"flags":4294967296,', b'"attributes":null,', b'"attributes":{},', b'"attributes":[null],'),
    *(b'"attributes":[{"key":null,"value":null}],', b'"attributes":[{"key":1}],', b'"unit":null,'),
    *(b'"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA",', b'"isMonotonic":null,'),
    *(b'"aggregationTemporality":"2",', b'"bucketCounts":null,', b'"explicitBounds":[null],'),
    *(b'"gauge":null,', b'"gauge":{},', b'"sum":{},', b'"scope":null,', b'"resource":null,'),
    *(b'"metrics":null,', b'"metrics":[],', b'"scopeMetrics":[],', b'"quantileValues":null,'),
    *(b'"stringValue":"x",', b'"bytesValue":"A-_",', b'"arrayValue":{},', b'"kvlistValue":null,'),
]
_LINE_WORDS = [
    *(
        b"\\",
        b"\\\\",
        b"\\,",
        b"\\=",
        b"\\ ",
        b'\\"',
        b'"',
        b'""',
        b'"a',
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
    ),
    *(
        b"#",
        b"\n#",
        b"\t",
        b"\0",
        b" ",
        b"  ",
        b",",
        b"=",
        b",=",
        b"=,",
        b"==",
        b"+",
        b"=+1",
        b"-",
        b"--1",
    ),
    *(
        b"i",
        b"u",
        b"1i",
        b"-1u",
        b"e",
        b"E",
        b".",
        b"1e5i",
        b"1.5i",
        b"1e400",
        b"t",
        b"TRUE",
        b"tru",
        b"nan",
    ),
    *(
        b"9223372036854775807i",
        b"9223372036854775808i",
        b"-9223372036854775808i",
        b"0" * 130 + b"1i",
    ),
    *(
        b"18446744073709551615u",
        b"18446744073709551616u",
        b"0" * 130,
        b"9" * 25,
        b"1_0",
        b"0x1",
        b"\xff",
    ),
    *(
        b"4611686018427387904",
        b"-4611686018427387904",
        b"1-2",
        b"\xc2\xb5",
        b"\x0b",
        b"\x0c1",
        b"\xd9\xa1",
    ),
    *(
        b'="x y",',
        b'="a\nb"',
        b'="\\\\"',
        b"value",
        b"value=1",
        b" value=1 1\n",
        b"__name__",
        b"x" * 1100,
    ),
]
_WORDS = {
    "json": _JSON_WORDS + _METRIC_WORDS,
    "otlp_json": _JSON_WORDS + _OTLP_WORDS,
    "line": _LINE_WORDS,
}
_WIRE_VALUES = (0, 1, 2, 7, 127, 128, 300, 2**31, 2**32 - 1, 2**32, 2**35, 2**63, 2**64 - 1)
_UTF8 = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\0")


def any_bytes(body: bytes, rng: Random) -> bytes:
    """Some bytes changed, cut, doubled or moved."""
    found = bytearray(body)
    at = rng.randrange(len(found) + 1)
    how = rng.randrange(8)
    if how == 0:
        found[at : at + 1] = bytes([rng.choice(_BYTES)])
    elif how == 1:
        found[at : at + 1] = bytes([rng.randrange(256)])
    elif how == 2 and at < len(found):
        found[at] ^= 1 << rng.randrange(8)
    elif how == 3:
        del found[at : at + 1 + rng.randrange(8)]
    elif how == 4:
        found.insert(at, rng.choice(_BYTES))
    elif how == 5:
        del found[at:]
    elif how == 6:
        end = at + rng.randrange(1, 40)
        found[at:at] = found[at:end]
    else:
        end = at + rng.randrange(1, 40)
        piece = found[at:end]
        del found[at:end]
        to = rng.randrange(len(found) + 1)
        found[to:to] = piece
    return bytes(found)


def words(body: bytes, rng: Random, form: str) -> bytes:
    """A word put in, or put in the place of a token."""
    word = rng.choice(_WORDS[form])
    at = rng.randrange(len(body) + 1)
    if word[-1:] == b"," and word[:1] == b'"' and rng.random() < 0.9:
        at = body.find(b"{", at) + 1  # a member goes where members are
        return body[:at] + word + body[at:]
    if rng.random() < 0.3:
        return body[:at] + word + body[at:]
    ends = b',:{}[]" \n=' if form != "line" else b", =\n"
    # From one end of a token to the next.
    begin = next((i for i in range(at, 0, -1) if body[i - 1] in ends), 0)
    end = next((i for i in range(at, len(body)) if body[i] in ends), len(body))
    if word[-2:-1] != b"," and rng.random() < 0.5 and b'"' in body:
        # In the place of a text with its quotes, or of a whole value.
        begin -= body[begin - 1 : begin] == b'"'
        end += body[end : end + 1] == b'"'
    return body[:begin] + word + body[end:]


def message(body: bytes, rng: Random, depth: int = 0) -> bytes:
    """One field, of the message or of one within, changed, doubled, moved, retyped or cut."""
    fields = wire.fields_of(body)
    if not fields:
        return any_bytes(body, rng)
    at = rng.randrange(len(fields))
    number, kind, value = fields[at]
    if kind == 2 and value and depth < 12 and rng.random() < 0.75:
        fields[at] = (number, kind, message(value, rng, depth + 1))
        return _joined(fields, rng)
    how = rng.randrange(11)
    if how == 0:
        fields.insert(rng.randrange(len(fields) + 1), fields[at])
    elif how == 1:
        del fields[at]
    elif how == 2:
        rng.shuffle(fields)
    elif how == 3:
        unknown = rng.choice((5, 15, 16, 2047, 2**29 - 1, number))
        fields.insert(at, (unknown, *_any_value(rng)))
    elif how == 4:
        fields[at] = (number, *_any_value(rng))
    elif how == 5:
        fields[at] = (rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)), kind, value)
    elif how == 6 and kind == 2:
        fields[at] = (number, kind, value + rng.choice(_UTF8))
    elif how == 7 and kind == 2:
        # A length that is not that of what follows.
        raw = wire.varint(number << 3 | 2) + wire.varint(
            rng.choice((len(value) + 1, 0, 2**31, 2**34))
        )
        return _joined(fields[:at], rng) + raw + value + _joined(fields[at + 1 :], rng)
    elif how == 8:
        group = wire.varint(number << 3 | 3) + _joined(fields[at:], rng)
        end = wire.varint((number if rng.random() < 0.8 else number + 1) << 3 | 4)
        return _joined(fields[:at], rng) + group + end
    elif how == 9:
        fields[at] = (number, kind, any_bytes(value, rng) if kind == 2 else _any_value(rng)[1])
    else:
        fields += fields
    return _joined(fields, rng)


def _any_value(rng: Random) -> tuple[int, bytes]:
    kind = rng.choice((0, 0, 1, 2, 5, 6, 7))
    if kind == 0:
        return kind, wire.varint(rng.choice(_WIRE_VALUES), rng.choice((0, 0, 1, 5, 9)))
    if kind == 1:
        return kind, rng.choice(_WIRE_VALUES).to_bytes(8, "little")
    if kind == 2:
        return kind, rng.randbytes(rng.randrange(6))
    return kind, rng.randbytes(4)


def _joined(fields: list[wire.Field], rng: Random) -> bytes:
    padding = rng.choice((1, 2, 4)) if rng.random() < 0.1 else 0
    return b"".join(wire.field(*found, padding) for found in fields)


def snappy(data: bytes, rng: Random) -> bytes:
    """A block; mostly by the library, else literals and copies of odd sizes."""
    if rng.random() < 0.8:
        return bytes(cramjam.snappy.compress_raw(data))
    out = wire.varint(len(data) + (rng.random() < 0.1), rng.choice((0, 0, 0, 1)))
    at = 0
    while at < len(data):
        size = rng.randrange(1, 300)
        piece = data[at : at + size]
        before = data.rfind(data[at : at + 4], 0, at + 3)
        if before >= 0 and rng.random() < 0.7:
            out += bytes([(4 - 1) << 2 | 3]) + (at - before).to_bytes(4, "little")
            at += len(data[at : at + 4])
            continue
        width = 0 if len(piece) <= 60 and rng.random() < 0.5 else 1 + (len(piece) > 256)
        out += bytes([(59 + width if width else len(piece) - 1) << 2])
        out += ((len(piece) - 1).to_bytes(width, "little") if width else b"") + piece
        at += size
    return out
