"""The scheduler: trains, keeps what was used, escalates, and sends what is in the outbox."""

from service.scheduler.loops import Scheduler

__all__ = ["Scheduler"]
