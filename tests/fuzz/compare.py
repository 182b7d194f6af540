"""One body through the fast decoder, whose cache of series is warm, and through the slow one."""

import resource
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import Series
from service.ingest import json, line_protocol, otlp, remote_write
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.inflate import gunzip
from tests.support import slow_decoders as slow
from tests.support.slow_decoders import Read, Refused

#: No body of up to `BODY_MAX` bytes may take more than this.
SECONDS_MAX = 1.0
MEMORY_MAX = 256 << 20
BODY_MAX = 64 << 10
#: As in the intake: beyond that the cache starts anew.
_KEYS_MAX = 50_000

_PRECISIONS = ("ns", "us", "ms", "s", "m", "h")


@dataclass(slots=True)
class _All(Answer):
    """Remembers every item, however many there are."""

    indexes: set[int] = field(default_factory=set)

    def reject(self, index: int, name: str, reason: str) -> None:
        assert reason, index
        assert isinstance(name, str), index
        self.indexes.add(index)


#: What a fast decoder makes of a body; the rest is how many texts were left out.
Fast = Callable[[bytes, Answer], tuple[Decoded, int]]
Slow = Callable[[bytes], Read]


@dataclass(frozen=True)
class Difference:
    """A body that is not read alike, or not in bounds."""

    form: str
    body: bytes
    fast: str
    slow: str


def _precision(body: bytes) -> str:
    # So that each is met, and that a body has always the same.
    return _PRECISIONS[sum(body[:16]) % 11 % 6]


def _line(body: bytes, answer: Answer) -> tuple[Decoded, int]:
    precision = line_protocol.Precision.of(_precision(body), _PRECISIONS)
    # Large bodies are read in another way, and few are large.
    many = 800 if len(body) % 2 else 0
    return line_protocol.decode(body, precision, answer, many=many)


def _json(body: bytes, answer: Answer) -> tuple[Decoded, int]:
    # Large ones are read in another way, and few are large by themselves.
    padding = b" " * (2000 if len(body) % 2 else 0)
    return json.decode(body + padding, "t", answer), 0


def _remote_write(body: bytes, answer: Answer) -> tuple[Decoded, int]:
    return remote_write.decode(remote_write.inflate(body), answer), 0


_DECODERS: dict[str, tuple[Fast, Slow]] = {
    "json": (_json, slow.json_metrics.read),
    "remote_write": (_remote_write, slow.remote_write.read),
    "otlp": (lambda b, a: (otlp.decode_protobuf(b, a), 0), slow.otlp.read),
    "otlp_json": (lambda b, a: (otlp.decode_json(b, a), 0), slow.otlp_json.read),
    "line": (_line, lambda body: slow.line_protocol.read(body, _precision(body))),
}
FORMS = (*_DECODERS, "gzip")

_Cache = dict[Hashable, tuple[tuple[str, str], ...]]


class Comparer:
    """Compares bodies of one form. Keeps labels by the keys of the decoder, as the intake does."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.accepted = self.refused = self.rows = 0
        self._memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._caches: dict[str, _Cache] = {}
        self._texts: dict[tuple[bytes, int], list[Hashable]] = {}

    def difference(self, body: bytes) -> Difference | None:
        """How the decoders differ over a body, None if they do not."""
        before = self._memory
        started = time.process_time()
        try:
            fast: Read | bytes | str = self._fast(body)
        except (InvalidInput, TooLarge) as error:
            fast = "refused" if str(error) else "refused without a reason"
        except Exception as error:  # whatever it is: that is what is looked for
            fast = f"raised {error!r}"
        took = time.process_time() - started
        self._memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = self._memory - before
        if len(body) <= BODY_MAX and took > SECONDS_MAX:
            return Difference(self.form, body, f"took {took:.2f} s", f"at most {SECONDS_MAX} s")
        if len(body) <= BODY_MAX and grown << 10 > MEMORY_MAX:
            return Difference(self.form, body, f"{grown >> 10} MiB", f"{MEMORY_MAX >> 20} MiB")
        try:
            expected: Read | bytes | str = self._slow(body)
        except Refused:
            expected = "refused"
        if fast != expected:
            return Difference(self.form, body, str(fast), str(expected))
        self.refused += fast == "refused"
        self.accepted += fast != "refused"
        self.rows += len(fast.rows) if isinstance(fast, Read) else 0
        return None

    def _slow(self, body: bytes) -> Read | bytes:
        if self.form == "gzip":
            return slow.gzip_body.gunzip(body)
        return _DECODERS[self.form][1](body)

    def _fast(self, body: bytes) -> Read | bytes:
        if self.form == "gzip":
            return gunzip(body)
        answer = _All()
        decoded, ignored = _DECODERS[self.form][0](body, answer)
        return self._looked_up(decoded, answer, ignored)

    def _looked_up(self, decoded: Decoded, answer: _All, ignored: int) -> Read:
        """All that the intake would learn of a body."""
        result = Read(ignored=ignored)
        if decoded.text is not None:
            keys = self._texts.setdefault((decoded.text, len(decoded.keys)), list(decoded.keys))
            if keys != list(decoded.keys):
                raise AssertionError(f"text {decoded.text!r} is of {keys}")
        cache = self._caches.setdefault(decoded.protocol, {})
        if len(cache) > _KEYS_MAX:
            cache.clear()
            self._texts.clear()
        t_ms = decoded.t_ms.tolist()
        bits = decoded.values.view(np.uint64).tolist()
        assert len(decoded.index) == len(decoded.keys) == len(t_ms) == len(bits)
        for row, (index, key) in enumerate(zip(decoded.index, decoded.keys, strict=True)):
            found = decoded.series(row)
            if isinstance(found, Series):
                labels = cache.setdefault(key, found.labels)
                if labels != found.labels:
                    raise AssertionError(f"key {key!r} is of {labels} and of {found.labels}")
                result.add(index, labels, found.metric_type.value, t_ms[row], bits[row])
            else:
                if key in cache:
                    raise AssertionError(f"key {key!r} was of {cache[key]}: {found}")
                answer.reject(index, decoded.name(row), found)
        result.rejected |= answer.indexes
        return result
