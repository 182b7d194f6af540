"""Every error that the service raises on purpose.

    OffbeatError
    ├── InvalidInput            400  what the caller sent is wrong; `where` names the place
    │   ├── Unprocessable       422  well-formed, but it breaks a rule of ours
    │   ├── UnsupportedMedia    415
    │   └── TooLarge            413
    ├── Unauthenticated         401
    ├── Forbidden               403  the key is good, its role is not enough
    ├── NotFound                404  also another tenant's id
    ├── Conflict                409
    ├── OverLimit               429  carries `retry_after` seconds
    ├── Unavailable             503  a store is down or behind; carries `retry_after` seconds
    ├── ConfigurationError           the program cannot start as it is set up
    ├── StaleSeries                  series were deleted since their ids were looked up
    ├── Damaged                      stored bytes are not what we wrote
    └── LostLease                    another worker owns the shard now

`service.api.problems` maps them to HTTP, once.
"""


class OffbeatError(Exception):
    """Root of the tree. `str(error)` is a sentence for the person who caused it."""


class InvalidInput(OffbeatError):
    """Input that cannot be taken as it is; `where` names the field, line or item."""

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.where = where


class Unprocessable(InvalidInput):
    """Well-formed input that breaks a rule of ours."""


class UnsupportedMedia(InvalidInput):
    """A content type or encoding that the endpoint does not take."""


class TooLarge(InvalidInput):
    """A body or value over its limit."""


class Unauthenticated(OffbeatError):
    """No key, or one that is unknown, expired or revoked."""


class Forbidden(OffbeatError):
    """The key is good; its role does not allow this."""


class NotFound(OffbeatError):
    """Nothing of that id for this tenant."""


class Conflict(OffbeatError):
    """The thing exists already or has changed meanwhile."""


class OverLimit(OffbeatError):
    """Over a quota; the caller may try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(OffbeatError):
    """A store is down or too far behind; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConfigurationError(OffbeatError):
    """The program cannot start as it is set up."""


class StaleSeries(OffbeatError):
    """Series of the tenant were deleted since their ids were looked up; look them up again."""


class Damaged(OffbeatError):
    """Stored bytes are not what we wrote, or a newer version wrote them."""


class LostLease(OffbeatError):
    """Another worker owns the shard now; this one must drop it."""
