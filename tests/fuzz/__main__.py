"""`python -m tests.fuzz`: damaged bodies through the fast and the slow decoders, by the million.

Ends with 1 and prints the body, made as short as it goes, if two decoders differ.
"""

import argparse
import os
import random
import resource
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from tests.fuzz.compare import FORMS, Comparer, Difference
from tests.fuzz.inputs import make

#: Inputs that a process takes at once, with one cache of series.
_PIECE = 10_000


@dataclass(frozen=True)
class _Done:
    form: str
    inputs: int
    accepted: int
    rows: int
    longest: float
    memory_mib: int
    difference: Difference | None


def _piece(form: str, seed: int, numbers: Iterable[int]) -> _Done:
    comparer = Comparer(form)
    inputs = 0
    longest = 0.0
    found = None
    for number in numbers:
        body = make(form, seed, number)
        started = time.process_time()
        found = comparer.difference(body)
        longest = max(longest, time.process_time() - started)
        inputs += 1
        if found is not None:
            found = shortest(found)
            break
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return _Done(form, inputs, comparer.accepted, comparer.rows, longest, memory, found)


def shortest(found: Difference) -> Difference:
    """The same with a shorter body, if one differs by itself: pieces are left out while it does."""
    size = max(1, len(found.body) // 2)
    patience = time.monotonic() + 20
    while size and time.monotonic() < patience:
        at = 0
        while at < len(found.body) and time.monotonic() < patience:
            body = found.body[:at] + found.body[at + size :]
            again = Comparer(found.form).difference(body)
            if again is None:
                at += size
            else:
                found = again
        size //= 2
    return found


def main() -> int:
    """Share the numbers out to processes, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all forms together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--form", choices=FORMS, action="append", help="only this one")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    forms = given.form or FORMS
    each = -(-given.inputs // len(forms))
    print(f"seed {given.seed}, {each:,} inputs of each of {', '.join(forms)}", flush=True)
    started = time.monotonic()
    totals = {form: [0, 0, 0, 0.0, 0] for form in forms}
    differences = []
    with ProcessPoolExecutor(given.processes) as pool:
        pieces = [
            pool.submit(_piece, form, given.seed, range(at, min(at + _PIECE, each)))
            for at in range(0, each, _PIECE)
            for form in forms
        ]
        for piece in as_completed(pieces):
            done = piece.result()
            total = totals[done.form]
            total[0] += done.inputs
            total[1] += done.accepted
            total[2] += done.rows
            total[3] = max(total[3], done.longest)
            total[4] = max(total[4], done.memory_mib)
            print(f"{done.form}: {total[0]:,}", end="  ", flush=True)
            if done.difference is not None:
                differences.append(done.difference)
                _tell(done.difference)
                pool.shutdown(wait=False, cancel_futures=True)
                break
    took = time.monotonic() - started
    print()
    for form, (inputs, accepted, rows, longest, memory) in totals.items():
        print(
            f"{form}: {inputs:,} inputs, {accepted:,} of them read to {rows:,} samples, "
            f"the rest refused alike; slowest {longest * 1000:.0f} ms, at most {memory} MiB"
        )
    inputs = sum(total[0] for total in totals.values())
    print(f"{inputs:,.0f} inputs in {took:.0f} s ({inputs / took:,.0f} a second)")
    return 1 if differences else 0


def _tell(found: Difference) -> None:
    print(f"\n{found.form} differs over\n  {found.body!r}", file=sys.stderr)
    print(f"  fast: {found.fast}\n  slow: {found.slow}\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
