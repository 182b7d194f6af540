"""The worker: owns shards; keeps their samples, scores new points, judges rules."""

from service.worker.loops import Worker

__all__ = ["Worker"]
