"""API keys: form, checksum, life and death."""

import asyncio
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from service.domain.clock import ManualClock
from service.domain.errors import (
    ConfigurationError,
    Conflict,
    NotFound,
    Unauthenticated,
    Unprocessable,
)
from service.domain.tenants import PLATFORM, Role
from service.security import audit
from service.security.keys import REMEMBER_SECONDS, KeyRing, _checksum, make_key, parse_key
from service.security.tenants import TenantStore
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import api_keys


async def _nothing(_tenant: str) -> None:
    return None


@pytest.fixture
async def ring(database: Database, clock: ManualClock) -> KeyRing:
    await TenantStore(database, clock, _nothing, Settings()).create("acme", "Acme", "test")
    return KeyRing(database, clock)


@given(position=st.integers(0, 50), letter=st.sampled_from("0123456789abcxyzABCXYZ_"))
def test_any_single_typo_is_told_by_the_checksum(position: int, letter: str) -> None:
    key = make_key()
    typo = key[:position] + letter + key[position + 1 :]
    if typo != key:
        with pytest.raises(Unauthenticated):
            parse_key(typo)


@given(st.text())
def test_any_text_is_a_key_or_unauthenticated(text: str) -> None:
    with pytest.raises(Unauthenticated):
        parse_key(text)


def test_keys_have_their_form_and_differ() -> None:
    keys = {make_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        prefix, key_id, secret, checksum = key.split("_")
        assert (prefix, len(key_id), len(secret), len(checksum)) == ("ob", 8, 32, 6)


async def test_a_key_says_who_is_asking(ring: KeyRing) -> None:
    key_id, key = await ring.create("acme", Role.WRITER, "  players  ", "admin:root")
    principal = await ring.verify(key)
    assert (principal.key_id, principal.name, principal.role, principal.tenant) == (
        key_id,
        "players",
        Role.WRITER,
        "acme",
    )
    _, admin = await ring.create(PLATFORM, Role.ADMIN, "root", "system")
    assert (await ring.verify(admin)).tenant is None


async def test_the_database_never_holds_the_key(ring: KeyRing, database: Database) -> None:
    _, key = await ring.create("acme", Role.WRITER, "players", "admin:root")
    async with database.read() as connection:
        row = (await connection.execute(select(api_keys))).one()
    secret = key.split("_")[2]
    assert secret not in repr(tuple(row))


async def test_another_secret_under_a_known_id_is_refused(ring: KeyRing) -> None:
    key_id, key = await ring.create("acme", Role.WRITER, "players", "admin:root")
    await ring.verify(key)
    body = f"ob_{key_id}_{make_key().split('_')[2]}"
    forged = f"{body}_{_checksum(body)}"
    with pytest.raises(Unauthenticated, match="unknown or revoked"):
        await ring.verify(forged)


async def test_revoked_here_is_revoked_at_once(ring: KeyRing) -> None:
    key_id, key = await ring.create("acme", Role.WRITER, "players", "admin:root")
    await ring.verify(key)
    assert await ring.live(key_id)
    await ring.revoke("acme", key_id, "operator:ann")
    with pytest.raises(Unauthenticated):
        await ring.verify(key)
    assert not await ring.live(key_id)
    with pytest.raises(NotFound):
        await ring.revoke("acme", key_id, "operator:ann")


async def test_revoked_elsewhere_is_revoked_within_the_bound(
    ring: KeyRing, database: Database, clock: ManualClock
) -> None:
    replica = KeyRing(database, clock)
    key_id, key = await ring.create("acme", Role.WRITER, "players", "admin:root")
    await replica.verify(key)
    await ring.revoke("acme", key_id, "operator:ann")
    await clock.advance(REMEMBER_SECONDS)
    with pytest.raises(Unauthenticated):
        await replica.verify(key)


async def test_a_clock_set_back_prolongs_nothing(
    ring: KeyRing, database: Database, clock: ManualClock
) -> None:
    replica = KeyRing(database, clock)
    key_id, key = await ring.create("acme", Role.WRITER, "players", "admin:root")
    await replica.verify(key)
    await ring.revoke("acme", key_id, "operator:ann")
    clock.set(clock.now() - 3600)
    with pytest.raises(Unauthenticated):
        await replica.verify(key)


async def test_an_admin_key_is_looked_up_each_time(
    ring: KeyRing, database: Database, clock: ManualClock
) -> None:
    replica = KeyRing(database, clock)
    await ring.create(PLATFORM, Role.ADMIN, "second", "system")
    key_id, key = await ring.create(PLATFORM, Role.ADMIN, "root", "system")
    await replica.verify(key)
    await ring.revoke(PLATFORM, key_id, "admin:second")
    with pytest.raises(Unauthenticated):
        await replica.verify(key)


async def test_the_last_admin_key_stays(ring: KeyRing) -> None:
    first, _ = await ring.create(PLATFORM, Role.ADMIN, "first", "system")
    second, _ = await ring.create(PLATFORM, Role.ADMIN, "second", "system")
    results = await asyncio.gather(
        ring.revoke(PLATFORM, first, "admin:x"),
        ring.revoke(PLATFORM, second, "admin:y"),
        return_exceptions=True,
    )
    assert sorted(type(result) for result in results if result is not None) == [Conflict]


@pytest.mark.parametrize(
    ("tenant", "role"), [("acme", Role.ADMIN), (PLATFORM, Role.OPERATOR), (PLATFORM, Role.READER)]
)
async def test_roles_stay_where_they_belong(ring: KeyRing, tenant: str, role: Role) -> None:
    with pytest.raises(Unprocessable, match="has the role"):
        await ring.create(tenant, role, "x", "test")


@pytest.mark.parametrize("name", ["", "  ", "a\x00b", "a\nb", "\ud800", "x" * 201])
async def test_names_that_cannot_be_shown_are_refused(ring: KeyRing, name: str) -> None:
    with pytest.raises(Unprocessable, match="name"):
        await ring.create("acme", Role.READER, name, "test")


async def test_foreign_keys_look_missing(
    ring: KeyRing, database: Database, clock: ManualClock
) -> None:
    await TenantStore(database, clock, _nothing, Settings()).create("other", "Other", "test")
    key_id, key = await ring.create("acme", Role.READER, "mine", "test")
    with pytest.raises(NotFound) as foreign:
        await ring.revoke("other", key_id, "operator:eve")
    assert await ring.list("other") == []
    assert (await ring.verify(key)).tenant == "acme"
    with pytest.raises(NotFound) as missing:
        await ring.revoke("other", "zzzzzzzz", "operator:eve")
    assert str(foreign.value).replace(key_id, "zzzzzzzz") == str(missing.value)
    with pytest.raises(NotFound):
        await ring.create("nobody", Role.READER, "x", "test")


async def test_making_and_revoking_is_audited(ring: KeyRing, database: Database) -> None:
    key_id, key = await ring.create("acme", Role.READER, "mine", "admin:root")
    await ring.revoke("acme", key_id, "operator:ann")
    entries, _ = await audit.page(database, "acme")
    assert [(e.actor, e.action, e.subject) for e in entries] == [
        ("operator:ann", "key.revoked", key_id),
        ("admin:root", "key.created", key_id),
    ]
    assert key not in repr(entries)


async def test_the_first_start_makes_one_admin_key(ring: KeyRing, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    key = await ring.ensure_admin_key(folder)
    assert key is not None
    assert (await ring.verify(key)).role is Role.ADMIN
    file = folder / "admin.key"
    assert file.read_text().strip() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await ring.ensure_admin_key(folder) is None


async def test_replicas_that_start_together_make_one_admin_key(
    ring: KeyRing, database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    made = await asyncio.gather(
        *(KeyRing(database, clock).ensure_admin_key(tmp_path / str(n)) for n in range(3))
    )
    assert len([key for key in made if key]) == 1
    assert len(await ring.list(PLATFORM)) == 1


async def test_a_key_in_the_file_serves_a_new_database(ring: KeyRing, tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "admin.key").write_text(key + "\n")
    assert await ring.ensure_admin_key(tmp_path) == key
    assert (await ring.verify(key)).role is Role.ADMIN


async def test_a_file_without_a_usable_key_is_named(
    ring: KeyRing, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "admin.key"
    file.write_text("something else")
    with pytest.raises(ConfigurationError, match=r"admin\.key"):
        await ring.ensure_admin_key(tmp_path)
    file.unlink()
    await ring.ensure_admin_key(tmp_path)
    async with database.begin() as connection:
        await connection.execute(update(api_keys).values(revoked_at=1.0))
    with pytest.raises(ConfigurationError, match="revoked"):
        await ring.ensure_admin_key(tmp_path)
