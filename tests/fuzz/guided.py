"""`python -m tests.fuzz.guided FORM [options of libFuzzer]`: the same, led by coverage.

Needs `pip install atheris`, which has wheels for Linux on x86-64 only: so it is no part of the
development dependencies. Runs until it finds a difference, or for `-runs=N` or
`-max_total_time=SECONDS`.
"""

import importlib
import sys
from random import Random


def main() -> None:
    """Hand libFuzzer the comparison, and bodies to begin with."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["service.ingest"]):
        compare = importlib.import_module("tests.fuzz.compare")
    inputs = importlib.import_module("tests.fuzz.inputs")
    form = sys.argv[1] if len(sys.argv) > 1 else ""
    if form not in compare.FORMS:
        sys.exit(f"usage: python -m tests.fuzz.guided {{{'|'.join(compare.FORMS)}}} [-runs=N]")
    comparer = compare.Comparer(form)

    def one(body: bytes) -> None:
        found = comparer.difference(body)
        if found is not None:
            raise AssertionError(str(found))

    def changed(body: bytes, longest: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.1:
            return bytes(inputs.make(form, seed, 0)[:longest])
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(body, longest))
        return bytes(inputs.damaged(form, body, rng)[:longest])

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
