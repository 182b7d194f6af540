"""Where trainings run: processes beside the scheduler's, so that nothing else waits for them."""

import asyncio
import contextlib
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

from service.detection.fitting import FitOptions, Trained, train_series
from service.storage.columns import Columns

#: Seconds after which idle processes end.
_IDLE_SECONDS = 120
#: A process that computes with several threads would only take turns with its siblings.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class FittingPool:
    """Up to `processes` trainings at a time. Processes start with the first one."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    async def fit(self, samples: Columns, options: FitOptions) -> Trained:
        """What `train_series` says of the samples.

        Raises what it raises, and RuntimeError if its process died; the next one gets a new pool.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=self._processes, timeout=_IDLE_SECONDS, env=_ONE_THREAD
            )
        pool: Any = self._pool
        try:
            # starting processes takes a moment, which is not the event loop's
            future = await asyncio.to_thread(
                pool.submit, train_series, samples.t, samples.v, options
            )
            result: Trained = await asyncio.wrap_future(future)
        except RuntimeError:
            if self._pool is pool:
                self._pool = None
                with contextlib.suppress(RuntimeError):
                    await asyncio.to_thread(pool.shutdown, wait=False, kill_workers=True)
            raise
        return result

    def close(self) -> None:
        """End the processes, also those that are training."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=True)
