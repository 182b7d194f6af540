"""Names that people give to things, as they are stored and shown."""

from service.domain.errors import Unprocessable


def checked_name(name: str, where: str = "name", limit: int = 200) -> str:
    """`name` without surrounding space; `Unprocessable` if empty, too long or not printable.

    PostgreSQL refuses NUL and lone surrogates; line breaks would forge lines in logs and mails.
    """
    trimmed = name.strip()
    if not trimmed:
        raise Unprocessable(f"{where} is empty", where=where)
    if len(trimmed) > limit:
        raise Unprocessable(f"{where} has {len(trimmed)} characters, over {limit}", where=where)
    if not trimmed.isprintable():
        raise Unprocessable(f"{where} has characters that cannot be printed", where=where)
    return trimmed
