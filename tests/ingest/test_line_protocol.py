"""Line protocol in, columns out: as a decoder reads it that goes one character at a time."""

import gzip
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import NAME, Series
from service.ingest import line_protocol
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME
from service.ingest.inflate import gunzip
from service.ingest.line_protocol import NANOSECONDS, Precision, decode
from tests.support import slow_decoders

ALL = ("ns", "us", "ms", "s", "m", "h")
MS = Precision.of("ms", ALL)

Sample = tuple[str, dict[str, str], int | None, float]


class Read:
    """What `decode` made of a body, with the intake's part done: series looked up by row."""

    def __init__(self, body: bytes, precision: Precision = NANOSECONDS) -> None:
        answer = Answer()
        decoded, self.ignored = decode(body, precision, answer)
        n = len(decoded.keys)
        assert len(decoded.index) == len(decoded.t_ms) == len(decoded.values) == n
        self.samples: list[Sample] = []
        self.keys = list(decoded.keys)
        self.bad = {item.index: item.reason for item in answer.items}
        for row, (t, v) in enumerate(zip(decoded.t_ms.tolist(), decoded.values, strict=True)):
            series = decoded.series(row)
            assert isinstance(decoded.name(row), str)
            if isinstance(series, Series):
                tags = {k: v for k, v in series.labels if k != NAME}
                self.samples.append((series.name, tags, None if t == NO_TIME else t, float(v)))
            else:
                self.bad[decoded.index[row]] = series


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"cpu value=1 1000000", [("cpu", {}, 1, 1.0)]),
        (b"cpu value=1", [("cpu", {}, None, 1.0)]),
        (b"cpu,h=a,z=b idle=98.5 1999999", [("cpu_idle", {"h": "a", "z": "b"}, 1, 98.5)]),
        (b"cpu,z=b,h=a idle=-.5e3 -1", [("cpu_idle", {"h": "a", "z": "b"}, -1, -500.0)]),
        (b"c a=1i,b=2u 0", [("c_a", {}, 0, 1), ("c_b", {}, 0, 2)]),
        (b"c a=3.,b=-4i 0", [("c_a", {}, 0, 3), ("c_b", {}, 0, -4)]),
        (b"up a=t,b=T,c=true,d=True,e=TRUE", [(f"up_{c}", {}, None, 1.0) for c in "abcde"]),
        (b"up a=f,b=F,c=false,d=False,e=FALSE", [(f"up_{c}", {}, None, 0.0) for c in "abcde"]),
        (b"  cpu value=1  1000000  ", [("cpu", {}, 1, 1.0)]),
        (b"cpu   value=1\r\n", [("cpu", {}, None, 1.0)]),
        (b"cpu value=1 1000000\r", [("cpu", {}, 1, 1.0)]),
        (
            rb"my\ disk\,x,a\=b=c\ d\,e\=f free\ b=1",
            [("my_disk_x_free_b", {"a_b": "c d,e=f"}, None, 1.0)],
        ),
        (rb"win,path=C:\Users\new value=1", [("win", {"path": r"C:\Users\new"}, None, 1.0)]),
        (rb"win,path=a\\ b value=1", [("win", {"path": r"a\ b"}, None, 1.0)]),
        (rb"win,path=a\\,b=c value=1", None),
        (b'weather,say="hi" value=1', [("weather", {"say": '"hi"'}, None, 1.0)]),
        ("wetter,stadt=Köln grad°=21".encode(), [("wetter_grad_", {"stadt": "Köln"}, None, 21.0)]),
        (
            b"net.http-rtt/p9,data-c=eu.1 95%=3",
            [("net_http_rtt_p9_95_", {"data_c": "eu.1"}, None, 3.0)],
        ),
        (b"5xx,1st=a value=3", [("_5xx", {"_1st": "a"}, None, 3.0)]),
        (b"rule:rate5m value=3", [("rule:rate5m", {}, None, 3.0)]),
        (b"a,t=1 value=1,w=2", [("a", {"t": "1"}, None, 1.0), ("a_w", {"t": "1"}, None, 2.0)]),
        (b"big value=9223372036854775807i", [("big", {}, None, 2.0**63)]),
        (b"big value=18446744073709551615u", [("big", {}, None, 2.0**64)]),
    ],
)
def test_a_line_is_read_as_influxdb_reads_it(line: bytes, expected: list[Sample] | None) -> None:
    read = Read(line)
    if expected is None:
        assert read.samples == []
        assert len(read.bad) == 1
    else:
        assert (read.samples, read.bad) == (expected, {})


def test_strings_are_left_out_and_counted() -> None:
    body = (
        b'log,host=a msg="a, b=c d\\" e\nsecond line 5",n=1,path="C:\\\\" 1000000\n'
        b'log msg="only text"\n'
        b"log n=2 2000000\n"
    )
    read = Read(body)
    assert read.samples == [("log_n", {"host": "a"}, 1, 1.0), ("log_n", {}, 2, 2.0)]
    assert (read.ignored, read.bad) == (3, {})


def test_comments_and_empty_lines_hold_nothing_but_are_counted() -> None:
    read = Read(b'# say "hi\n\n  \n\t# x\ncpu value=1\n\ncpu value=x\n#')
    assert read.samples == [("cpu", {}, None, 1.0)]
    assert list(read.bad) == [7]
    assert Read(b"").samples == Read(b"\n\n").samples == Read(b"# x").samples == []


BAD = [
    (b"cpu", "there are no fields after 'cpu'"),
    (b"cpu,host=a ", "there are no fields after 'cpu,host=a'"),
    (b"cpu value", "field 'value' has no value"),
    (b"cpu value=", "field 'value': it has no value"),
    (b"cpu =1", "a field has no name"),
    (b"cpu value=1,", "a field has no name"),
    (b"cpu value=1,=2", "a field has no name"),
    (b"cpu value=abc", "'abc' is no number"),
    (b"cpu value=nan", "'nan' is no number"),
    (b"cpu value=-inf", "'-inf' is no number"),
    (b"cpu value=1_000", "is no number"),
    (b"cpu value=+1", "is no number"),
    (b"cpu value=0x10", "is no number"),
    (b"cpu value=1.5i", "is no number"),
    (b"cpu value=1e999 1", "'1e999' is beyond a 64-bit float"),
    (b"cpu value=9223372036854775808i", "is beyond 64 bits"),
    (b"cpu value=-1u", "is beyond 64 bits"),
    (b"cpu value=18446744073709551616u", "is beyond 64 bits"),
    (b'cpu value="abc', "the string of field 'value' is not closed"),
    (b'cpu value="abc"d', "a string ends in the middle"),
    (b"cpu value=1 abc", "timestamp 'abc' is no whole number"),
    (b"cpu value=1 1.5", "timestamp '1.5' is no whole number"),
    (b"cpu value=1 1_0", "is no whole number"),
    (b"cpu value=1 1 2", "'2' follows the timestamp"),
    (b"cpu value=1 " + b"9" * 5000, "is no whole number"),
    (b",host=a value=1", "the measurement is missing"),
    (b"cpu, value=1", "a tag has no name"),
    (b"cpu,host value=1", "tag 'host' has no value"),
    (b"cpu,host= value=1", "tag 'host' has no value"),
    (b"cpu,=a value=1", "a tag has no name"),
    (b"cpu,host=a=b value=1", "write = in a value as \\="),
    (b"cpu,host=a,host=b value=1", "tag 'host' is there twice"),
    (b"cpu,a.b=1,a-b=2 value=1", "tags 'a.b' and 'a-b' are both the label a_b"),
    (b"cpu,__name__=x value=1", "reserved"),
    (b"cpu:anomaly_score value=1", "what only models write"),
    (b"c" * 129 + b" value=1", "name has 129 characters"),
    (b"cpu,host=\xff value=1", "not valid UTF-8"),
    (b"cpu\xff value=1", "not valid UTF-8"),
    (b"cpu,host=" + b"x" * 1025 + b" value=1", "over 1024 bytes"),
    (("cpu,host=%s value=1" % ("ö" * 513)).encode(), "over 1024 bytes"),
    (b"cpu," + b",".join(b"t%d=x" % i for i in range(31)) + b" value=1", "31 labels"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_named_and_its_neighbours_are_kept(line: bytes, reason: str) -> None:
    for ending in (b"\n", b"\r\n"):
        read = Read(b"a value=1 1000000" + ending + line + ending + b"b value=2 1000000" + ending)
        assert read.samples == [("a", {}, 1, 1.0), ("b", {}, 1, 2.0)]
        assert list(read.bad) == [2]
        assert reason in read.bad[2]


def test_a_newline_in_a_string_moves_the_count_of_lines() -> None:
    read = Read(b'a s="1\n2\n3"\nb value=x\n')
    assert list(read.bad) == [4]


@pytest.mark.parametrize(
    ("name", "stamp", "t_ms"),
    [
        ("", 1_700_000_000_123_456_789, 1_700_000_000_123),
        ("ns", -1, -1),
        ("n", 1_999_999, 1),
        ("u", 1_700_000_000_123_456, 1_700_000_000_123),
        ("us", -1_001, -2),
        ("ms", 1_700_000_000_123, 1_700_000_000_123),
        ("s", 1_700_000_000, 1_700_000_000_000),
        ("m", 28_333_333, 1_699_999_980_000),
        ("h", 472_222, 1_699_999_200_000),
    ],
)
def test_precisions(name: str, stamp: int, t_ms: int) -> None:
    precision = Precision.of(name, ALL)
    for line in (f"cpu value=1 {stamp}", f"cpu value=1 {stamp}\n\ncpu a=1i {stamp}"):
        assert {t for _, _, t, _ in Read(line.encode(), precision).samples} == {t_ms}


def test_a_precision_that_is_none_says_which_there_are() -> None:
    with pytest.raises(InvalidInput, match="precision 'm' is none of ns, us, ms, s"):
        Precision.of("m", ("ns", "us", "ms", "s"))


def test_zeros_before_a_number_count_for_nothing_in_each_way_to_read_it() -> None:
    zeros = b"0" * 5000
    for line in (b"cpu a=%s7i %s5000000" % (zeros, zeros), b"cpu a=-%s7i -%s5" % (zeros, zeros)):
        plain, simple, slow = Read(line), Read(line + b"\n\n"), Read(line + b"  ")
        assert plain.samples == simple.samples == slow.samples
        assert len(plain.samples) == 1


def test_digits_without_end_take_no_longer_than_others() -> None:
    """A pattern that tries all ways to share out digits takes minutes over these."""
    read = Read(b"cpu a=" + b"1" * 1_000_000 + b"x 1")
    assert "is no number" in read.bad[1]


@pytest.mark.parametrize("stamp", [-(1 << 63), (1 << 63) - 1, 1 << 62, 10**19])
def test_no_timestamp_becomes_another(stamp: int) -> None:
    """The smallest number means "now" inside; nothing a sender writes may turn into it."""
    for precision in (MS, Precision.of("h", ALL)):
        for field in (b"value=1", b"a=1i"):
            read = Read(b"cpu %s %d" % (field, stamp), precision)
            assert read.samples == []
            assert "is no time in" in read.bad[1]


def test_the_key_of_a_series_is_the_same_in_each_way_to_read_it() -> None:
    plain = Read(b"cpu,host=a idle=1 5").keys
    simple = Read(b"cpu,host=a idle=1,user=2 5").keys
    slow = Read(b'cpu,host=a  idle=1,note="x" 5').keys
    assert plain == simple[:1] == slow


def escaped(text: str, characters: str) -> str:
    for c in characters:
        text = text.replace(c, "\\" + c)
    return text


# No backslash at the end: it would escape what follows, and no way to write one exists.
NAMES = st.text(st.sampled_from("ab,= \\\"ö.-%'1_"), min_size=1, max_size=6).filter(
    lambda s: not s.endswith("\\")
)
NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(lambda v: (repr(v), v))
    | st.integers(-(2**63), 2**63 - 1).map(lambda v: (f"{v}i", float(v)))
    | st.integers(0, 2**64 - 1).map(lambda v: (f"{v}u", float(v)))
    | st.booleans().map(lambda v: (str(v).lower(), float(v)))
)
STRINGS = st.text(st.sampled_from('a,= \\"\n#'), max_size=6)
FIELDS = st.lists(st.tuples(NAMES, NUMBERS | STRINGS), min_size=1, max_size=4)
POINTS = st.fixed_dictionaries(
    {
        "measurement": NAMES.filter(lambda s: not s.startswith(("#", " "))),
        "tags": st.dictionaries(NAMES, NAMES, max_size=3),
        "fields": FIELDS,
        "t": st.none() | st.integers(-(10**18), 2 * 10**18),
    }
)


def written(point: dict[str, Any]) -> str:
    """A point as a client writes it."""
    line = escaped(point["measurement"], ", ")
    for key, value in point["tags"].items():
        line += f",{escaped(key, ',= ')}={escaped(value, ',= ')}"
    fields = []
    for key, value in point["fields"]:
        text = value[0] if isinstance(value, tuple) else '"' + escaped(value, '\\"') + '"'
        fields.append(f"{escaped(key, ',= ')}={text}")
    line += " " + ",".join(fields)
    return line if point["t"] is None else f"{line} {point['t']}"


def cleaned(text: str, allowed: str) -> str:
    text = "".join(c if (c.isascii() and c.isalnum()) or c in allowed else "_" for c in text)
    return "_" + text if text[0].isdigit() else text


def named(measurement: str, field: str) -> str:
    return cleaned(measurement if field == "value" else f"{measurement}_{field}", "_:")


def labelled(tags: dict[str, str]) -> dict[str, str] | None:
    """The labels of tags, None where two tags become one label."""
    labels = {cleaned(key, "_"): value for key, value in tags.items()}
    return labels if len(labels) == len(tags) else None


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(POINTS, st.sampled_from(["", "# x", '# "'])), max_size=6))
@example([{"measurement": "a", "tags": {}, "fields": [("value", ("1.0", 1.0))], "t": 5}])
def test_what_an_encoder_wrote_is_read_back(points: list[Any]) -> None:
    body = "\n".join(p if isinstance(p, str) else written(p) for p in points)
    expected, text_fields = [], 0
    for point in points:
        if isinstance(point, str):
            continue
        labels = labelled(point["tags"])
        t = None if point["t"] is None else point["t"] // 10**6
        for key, value in point["fields"]:
            if not isinstance(value, tuple):
                text_fields += 1
            elif labels is not None:
                expected.append((named(point["measurement"], key), labels, t, value[1]))
    for ending in ("", "\n"):
        read = Read((body + ending).encode())
        assert read.samples == expected
        assert read.ignored == text_fields
        assert all("both the label" in reason for reason in read.bad.values())


WORDS = st.text(st.sampled_from("ab\\.é"), max_size=4).map("{}x".format)
MIXED = st.builds(
    lambda m, tags, fields, t: "".join(
        [m, *(f",{k}={v}" for k, v in tags), " ", ",".join(f"{k}={v}" for k, v in fields), t]
    ),
    st.sampled_from(["cpu", "my\\ cpu", "a\\\\b", "c\\,d", "plain"]) | WORDS.map("m{}".format),
    st.lists(st.tuples(WORDS, WORDS), max_size=3),
    st.lists(
        st.tuples(
            WORDS,
            st.sampled_from(["1", "2.5", "-3i", "4u", "t", "FALSE", '"x, y=\n\\" z"', "1e5"]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["", " 1000000", " -1", " 1700000000000000000"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(MIXED | st.sampled_from(["cpu,host=a value=1 1000000", "", "# c"]), max_size=8))
def test_each_way_to_read_it_gives_what_the_slow_decoder_gives(lines: list[str]) -> None:
    text = "\n".join(lines).encode()
    slow, read = slow_decoders.line_protocol.read(text), Read(text)
    expected = [
        (
            dict(row.labels)[NAME],
            {key: value for key, value in row.labels if key != NAME},
            None if row.t_ms == NO_TIME else row.t_ms,
            row.bits,
        )
        for row in slow.rows
    ]
    found = [(name, tags, t, slow_decoders.bits_of(v)) for name, tags, t, v in read.samples]
    assert found == expected
    assert (set(read.bad), read.ignored) == (slow.rejected, slow.ignored)


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('ab1,= \\"\n#.-ei\t\r\0'), max_size=60).map(str.encode)
)
def test_no_bytes_break_it(body: bytes) -> None:
    read = Read(body)
    assert all(math.isfinite(v) for *_, v in read.samples)
    assert all(read.bad.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=3), st.data())
def test_one_changed_byte_spoils_no_other_body(points: list[Any], data: st.DataObject) -> None:
    body = bytearray("\n".join(written(p) for p in points).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    read = Read(b"good value=7 1000000\n" + bytes(body))
    assert read.samples[0] == ("good", {}, 1, 7.0)
    assert all(read.bad.values())


class TestInflate:
    """gzip, within bounds."""

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    def test_members_follow_each_other(self, members: list[bytes]) -> None:
        assert gunzip(b"".join(map(gzip.compress, members))) == b"".join(members)

    def test_a_bomb_is_stopped_while_it_is_inflated(self) -> None:
        bomb = gzip.compress(b"\0" * (64 << 20), 9)
        with pytest.raises(TooLarge, match="more than 10 MiB"):
            gunzip(bomb)
        assert len(gunzip(gzip.compress(b"\0" * 1000), 1000)) == 1000
        with pytest.raises(TooLarge):
            gunzip(gzip.compress(b"\0" * 1001), 1000)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"cpu value=1",
            gzip.compress(b"x" * 100, mtime=0)[:-1],
            gzip.compress(b"x", mtime=0) + b"y",
        ],
    )
    def test_what_is_no_gzip_says_so(self, body: bytes) -> None:
        with pytest.raises(InvalidInput, match="gzip"):
            gunzip(body)


@pytest.mark.parametrize(
    "body", [b"\n" * 11, b"a b=1\n" * 11, b"a b=1,c=2\n" * 6, b'a x="",' + b"b=1," * 11 + b"c=1"]
)
def test_a_request_has_a_bounded_number_of_samples(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(line_protocol, "SAMPLES_MAX", 10)
    with pytest.raises(TooLarge, match="may hold 10 samples"):
        Read(body)
