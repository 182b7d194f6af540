"""`offbeat`, with roles that can be profiled, kept to a core, or take plain decoders to compare.

`python -m bench.role serve …` is `offbeat serve …`, unless one of the variables is set: then the
supervisor starts its roles through this module, too.
"""

import cProfile
import os
import stat
import sys
from pathlib import Path

#: Not empty: the API decodes with `bench.slow`.
SLOW = "BENCH_SLOW"
#: `role:file`: profile that role and write what was found to the file.
PROFILE = "BENCH_PROFILE"
#: `role:core`: that role runs on this core alone.
PIN = "BENCH_PIN"


def main() -> None:
    """Be the command line, or one role."""
    words = sys.argv[1:]
    slow = bool(os.environ.get(SLOW))
    profiled, _, file = os.environ.get(PROFILE, "").partition(":")
    pinned, _, core = os.environ.get(PIN, "").partition(":")
    if words[:2] == ["-m", "service.cli"]:
        if words[2] == pinned:
            os.sched_setaffinity(0, {int(core)})
        _role(words[2], slow=slow, file=file if words[2] == profiled else "")
        return
    from service import cli

    if slow or profiled or pinned:
        folder = Path(words[words.index("--data-dir") + 1]).parent
        sys.executable = str(_interpreter(folder))
    cli.main()


def _interpreter(folder: Path) -> Path:
    """An executable that the supervisor takes for Python, and that comes here."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bench.role "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _role(role: str, *, slow: bool, file: str) -> None:
    from service.roles import run_role
    from service.settings import load_settings

    if slow and role == "api":
        from bench.slow import install

        install()
    if not file:
        run_role(role, load_settings())
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        run_role(role, load_settings())
    finally:
        profile.disable()
        profile.dump_stats(file)


if __name__ == "__main__":
    main()
