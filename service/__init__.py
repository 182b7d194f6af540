"""Offbeat: the service. Rooms are described in docs/architecture.md."""

import os

__version__ = "0.1.0"

# Arrays are small and processes share the machine: threads of the linear algebra library, which
# reads this when it is loaded, would mostly wait for each other at the price of whole cores.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
