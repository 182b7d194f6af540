"""API keys: prefixed, checksummed, kept as hashes, revoked at once.

    ob_<key id, 8>_<secret, 32 of base 62>_<checksum, 6>

The checksum tells a mistyped key without a look at the database and lets scanners for leaked
secrets recognise one. Only the SHA-256 of the secret is stored: 190 random bits need no slow hash.

A tenant's verified key is remembered for `REMEMBER_SECONDS`, so a key that another replica revokes
dies within that time; on the replica that revokes it, at once. Admin keys are looked up each time.
"""

import hashlib
import hmac
import os
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import RowMapping, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.clock import Clock
from service.domain.errors import (
    ConfigurationError,
    Conflict,
    NotFound,
    Unauthenticated,
    Unprocessable,
)
from service.domain.tenants import PLATFORM, Principal, Role
from service.security import audit
from service.security.names import checked_name
from service.security.remembered import Remembered
from service.storage.sql.engine import Database
from service.storage.sql.tables import api_keys, tenants

REMEMBER_SECONDS = 1.0
ADMIN_KEY_FILE = "admin.key"

#: Finds keys in text, to keep them out of logs.
KEY_PATTERN = re.compile(r"ob_([0-9a-z]{8})_([0-9A-Za-z]{32})_([0-9A-Za-z]{6})")

_BASE62 = string.digits + string.ascii_letters
_ID_LETTERS = string.digits + string.ascii_lowercase
_KEY_ID = re.compile(r"[0-9a-z]{8}")
_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed; the key itself was shown once and is stored nowhere."""

    id: str
    tenant: str
    name: str
    role: Role
    created_at: float
    revoked_at: float | None


def make_key() -> str:
    """A new random key."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
    secret = "".join(secrets.choice(_BASE62) for _ in range(32))
    body = f"ob_{key_id}_{secret}"
    return f"{body}_{_checksum(body)}"


def parse_key(key: str) -> tuple[str, str]:
    """Key id and SHA-256 (hex) of the secret; `Unauthenticated` unless form and checksum fit."""
    match = KEY_PATTERN.fullmatch(key)
    if match is None:
        raise Unauthenticated("this is not an API key: one looks like ob_…_…_…")
    if _checksum(key[:-7]) != match[3]:
        raise Unauthenticated("the API key is mistyped or cut off: its checksum does not fit")
    return match[1], hashlib.sha256(match[2].encode()).hexdigest()


class KeyRing:
    """Makes, checks, lists and revokes keys."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._remembered: Remembered[str, Principal] = Remembered(clock, REMEMBER_SECONDS)

    async def create(self, tenant: str, role: Role, name: str, actor: str) -> tuple[str, str]:
        """Id and text of a new key. `tenant` is `PLATFORM` for an admin's.

        Raises `Unprocessable` for a role that does not fit and `NotFound` for an unknown tenant.
        """
        if (role is Role.ADMIN) != (tenant == PLATFORM):
            allowed = "admin" if tenant == PLATFORM else "operator, responder, writer or reader"
            raise Unprocessable(f"a key here has the role {allowed}, not {role!s}", where="role")
        key, name = make_key(), checked_name(name)
        async with self._database.begin() as connection:
            if tenant != PLATFORM:
                found = await connection.execute(select(tenants.c.id).where(tenants.c.id == tenant))
                if found.first() is None:
                    raise NotFound(f"there is no tenant {tenant!r}")
            key_id = await self._store(connection, key, tenant, role, name, actor)
        return key_id, key

    async def verify(self, key: str) -> Principal:
        """Whose key it is; `Unauthenticated` if mistyped, unknown or revoked."""
        key_id, hashed = parse_key(key)
        return await self._remembered.get(
            f"{key_id}:{hashed}",
            lambda: self._verify(key_id, hashed),
            lasting=lambda principal: principal.role is not Role.ADMIN,
        )

    async def _verify(self, key_id: str, hashed: str) -> Principal:
        row = await self._live_row(key_id)
        stored = row["hash"] if row else _NO_HASH
        if not hmac.compare_digest(stored, hashed) or row is None:
            raise Unauthenticated("the API key is unknown or revoked")
        return _principal(row)

    async def live(self, key_id: str) -> bool:
        """Whether the key exists and is not revoked, by the database itself."""
        return await self._live_row(key_id) is not None

    async def list(self, tenant: str) -> list[ApiKey]:
        """Every key of the tenant, oldest first, revoked ones included."""
        query = select(api_keys).where(api_keys.c.tenant == tenant)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(api_keys.c.created_at, api_keys.c.id))
            return [
                ApiKey(r.id, r.tenant, r.name, Role(r.role), r.created_at, r.revoked_at)
                for r in rows
            ]

    async def revoke(self, tenant: str, key_id: str, actor: str) -> None:
        """End a key. `NotFound` unless it is a live one of the tenant; the last admin key stays."""
        missing = NotFound(f"there is no key {key_id[:32]!r}")
        if not _KEY_ID.fullmatch(key_id):
            raise missing
        async with self._database.begin() as connection:
            rows = await connection.execute(
                select(api_keys.c.id, api_keys.c.name)
                .where(api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None))
                .with_for_update()
            )
            names = {row.id: row.name for row in rows}
            if key_id not in names:
                raise missing
            if tenant == PLATFORM and len(names) == 1:
                raise Conflict("this is the last admin key; make another one first")
            now = self._clock.now()
            await connection.execute(
                update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now)
            )
            await audit.record(
                connection,
                tenant=tenant,
                actor=actor,
                action="key.revoked",
                subject=key_id,
                detail={"name": names[key_id]},
                at=now,
            )
        self._remembered.forget(lambda _, principal: principal.key_id == key_id)

    def forget_tenant(self, tenant: str) -> None:
        """Remember no key of a tenant that was deleted."""
        self._remembered.forget(lambda _, principal: principal.tenant == tenant)

    async def ensure_admin_key(self, data_dir: Path) -> str | None:
        """Make the first admin key and keep it (0600) in `admin.key`; None if there is one already.

        The file is written before the database commits: after a crash in between, or with a new
        database beside an old folder, the key in the file is taken.
        """
        async with self._database.begin() as connection:
            if not self._database.is_sqlite:  # SQLite's transactions exclude each other anyway
                await connection.execute(text("SELECT pg_advisory_xact_lock(7016996765293437)"))
            live = await connection.execute(
                select(api_keys.c.id)
                .where(api_keys.c.tenant == PLATFORM, api_keys.c.revoked_at.is_(None))
                .limit(1)
            )
            if live.first() is not None:
                return None
            path = data_dir / ADMIN_KEY_FILE
            key = _write_or_read(path)
            known = await connection.execute(
                select(api_keys.c.id).where(api_keys.c.id == parse_key(key)[0])
            )
            if known.first() is not None:
                raise ConfigurationError(f"{path}: this key was revoked; move the file away")
            await self._store(connection, key, PLATFORM, Role.ADMIN, "first admin key", "system")
        return key

    async def _store(
        self,
        connection: AsyncConnection,
        key: str,
        tenant: str,
        role: Role,
        name: str,
        actor: str,
    ) -> str:
        key_id, hashed = parse_key(key)
        now = self._clock.now()
        await connection.execute(
            insert(api_keys).values(
                id=key_id, tenant=tenant, name=name, role=str(role), hash=hashed, created_at=now
            )
        )
        await audit.record(
            connection,
            tenant=tenant,
            actor=actor,
            action="key.created",
            subject=key_id,
            detail={"name": name, "role": str(role)},
            at=now,
        )
        return key_id

    async def _live_row(self, key_id: str) -> RowMapping | None:
        query = select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        async with self._database.read() as connection:
            return (await connection.execute(query)).mappings().first()


def _principal(row: RowMapping) -> Principal:
    tenant = None if row["tenant"] == PLATFORM else row["tenant"]
    return Principal(row["id"], row["name"], Role(row["role"]), tenant)


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def _write_or_read(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = make_key()
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        kept = path.read_text().strip()
        try:
            parse_key(kept)
        except Unauthenticated as error:
            raise ConfigurationError(
                f"{path} holds no usable key ({error}); move it away"
            ) from None
        return kept
    with os.fdopen(handle, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key
