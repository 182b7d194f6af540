"""The input of a number: the same in each run with a seed, however the numbers are shared out."""

from collections.abc import Callable
from random import Random

from tests.fuzz import bodies, damage
from tests.fuzz.compare import BODY_MAX

_BODIES: dict[str, Callable[[Random], bytes]] = {
    "json": bodies.json_body,
    "remote_write": bodies.remote_write_message,
    "otlp": bodies.otlp_body,
    "otlp_json": bodies.otlp_json_body,
    "line": bodies.line_body,
    "gzip": bodies.gzip_body,
}
# Few kinds of body are met again and again, as from real senders: their keys are in the cache.
_FAMILIES = 4000
# What a pattern or a recursion could take long over.
_RUNS = [
    *(bytes([byte]) for byte in b'0919.eE-+\\"[{(,= :x#\n\t\0\x80\xff'),
    b'\\"',
    b"[]",
    b"\\ ",
    b'{"a":',
]


def make(form: str, seed: int, number: int) -> bytes:
    """A body of up to 64 KiB, damaged or not."""
    rng = Random(f"{seed} {form} {number}")
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.randrange(80))
    family = Random(f"{seed} {form} {rng.randrange(_FAMILIES)}") if kind < 0.3 else rng
    body = _BODIES[form](family)
    if kind > 0.9995:
        body = _long(form, body, rng)
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 4))):
        body = damaged(form, body, rng)
    if form == "remote_write":
        body = damage.snappy(body, rng)
        if rng.random() < 0.1:
            body = damage.any_bytes(body, rng)
    return body[:BODY_MAX]


def damaged(form: str, body: bytes, rng: Random) -> bytes:
    """The body with one thing wrong, in a way that goes with its form."""
    if rng.random() < 0.3 or form == "gzip":
        return damage.any_bytes(body, rng)
    if form in ("remote_write", "otlp"):
        return damage.message(body, rng)
    return damage.words(body, rng, form)


def _long(form: str, body: bytes, rng: Random) -> bytes:
    """The body, or a piece of it, over and over."""
    at = rng.randrange(len(body) + 1)
    piece = body[at : at + rng.randrange(1, 30)] or b"x"
    if rng.random() < 0.5:
        piece = rng.choice(_RUNS)
    times = rng.randrange(BODY_MAX) // len(piece)
    if form in ("remote_write", "otlp", "line", "gzip") and rng.random() < 0.6:
        return body * (BODY_MAX // 2 // (len(body) + 1))
    return body[:at] + piece * times + body[at:]
