"""`offbeat`: the command line."""

import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from service import __version__
from service.domain.clock import iso
from service.domain.errors import OffbeatError
from service.domain.tenants import PLATFORM, Role
from service.offline.commands import AsJson, detect, err, forecast, out, query
from service.settings import Settings, load_settings

app = typer.Typer(
    help="Offbeat watches the metrics of many tenants, learns what is normal, and wakes the right "
    "person only when it must.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tenants = typer.Typer(help="Create, list and delete tenants.", no_args_is_help=True)
keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
rules = typer.Typer(help="Check and test rules files.", no_args_is_help=True)
app.add_typer(tenants, name="tenants")
app.add_typer(keys, name="keys")
app.add_typer(rules, name="rules")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the stores and the admin key.", show_default=False),
]

#: Loading makes a hundred thousand objects that stay, and a request tens of thousands that live for
#: a moment, none in a cycle: looking for cycles as often as Python does takes a fifth of the start,
#: and would cost as much again as reading the request.
_GC_THRESHOLDS = (100_000, 50, 100)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and status 1."""
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        app()
    except OffbeatError as error:
        err.print(f"offbeat: {error}", markup=False)
        sys.exit(1)


def _settings(data_dir: Path | None = None, **more: Any) -> Settings:
    given = {"data_dir": data_dir, **more}
    return load_settings(**{k: v for k, v in given.items() if v is not None})


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"offbeat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run everything: the private store if no Redis is set, api, worker and scheduler."""
    from service.supervisor import Supervisor

    settings = _settings(data_dir, host=host, port=port)
    with _stop_signals() as stopping, Supervisor(settings, _say) as running:
        out.print(_where_everything_is(running), markup=False)
        running.run(stopping)
        _say("stopping")


def _say(line: str) -> None:
    err.print(f"offbeat: {line}", markup=False)


def _where_everything_is(running: Any) -> str:
    settings: Settings = running.settings
    folder = settings.data_dir.resolve()
    redis = "private store" if settings.embedded_redis else "Redis as configured"
    sql = "database as configured" if settings.database_url else "SQLite"
    key = (
        f"{running.admin_key}  (shown once; kept in {folder / 'admin.key'})"
        if running.admin_key
        else f"in {folder / 'admin.key'}"
    )
    return "\n".join(
        [
            "Offbeat is running. Ctrl-C stops it.",
            f"  dashboard  {running.url}/",
            f"  API        {running.url}/docs",
            f"  data       {folder}  ({redis}, {sql})",
            f"  rules      {settings.alert_rules.resolve()}",
            f"  admin key  {key}",
        ]
    )


@contextlib.contextmanager
def _stop_signals() -> "Iterator[Any]":
    """Give a function that says whether SIGTERM or SIGINT has come."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: came.append(n))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _role(name: str, about: str) -> None:
    def run(data_dir: DataDir = None) -> None:
        from service.roles import run_role

        run_role(name, _settings(data_dir))

    run.__doc__ = about
    app.command(name)(run)


_role("api", "Run the API and the pages alone.")
_role("worker", "Run a worker alone: it stores, scores and judges.")
_role("scheduler", "Run a scheduler alone: it trains, escalates and sends.")


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop when the story has ended.")] = False,
    port: Annotated[int, typer.Option(help="Port of the dashboard; 0 takes a free one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Play a story on real series: learn, alert, escalate, acknowledge."""
    from service.demo.story import play

    with _stop_signals() as stopping:
        whole = play(once=once, port=port, as_json=as_json, out=out, stopping=stopping)
    raise typer.Exit(0 if whole else 1)


app.command()(detect)
app.command()(forecast)
app.command()(query)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's tables and make the admin key."""
    from service.wiring import prepare

    settings = _settings(data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    admin_key = asyncio.run(prepare(settings, with_redis=False))
    out.print("the database is up to date")
    if admin_key:
        out.print(f"admin key  {admin_key}  (shown once; kept in the data folder)", markup=False)


@tenants.command("create")
def tenants_create(
    tenant_id: Annotated[str, typer.Argument(help="a-z, 0-9, _ and -")],
    name: Annotated[str, typer.Option(help="How people call it; by default its id.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Create a tenant."""
    _with_parts(data_dir, lambda p: p.tenants.create(tenant_id, name or tenant_id, "cli"))
    out.print(f"tenant {tenant_id} created", markup=False)


@tenants.command("list")
def tenants_list(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the tenants."""
    found = _with_parts(data_dir, lambda p: p.tenants.every())
    rows = [{"id": t.id, "name": t.name, "created_at": iso(t.created_at)} for t in found]
    _table(rows, as_json)


@tenants.command("revoke")
def tenants_revoke(
    tenant_id: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete a tenant with all its data."""
    if not yes:
        typer.confirm(f"Delete {tenant_id} with all its samples, rules and alerts?", abort=True)
    _with_parts(data_dir, lambda p: p.tenants.delete(tenant_id, "cli"))
    out.print(f"tenant {tenant_id} deleted", markup=False)


@keys.command("create")
def keys_create(
    tenant_id: Annotated[str, typer.Argument(help="The tenant; '-' for an admin key.")],
    role: Annotated[Role, typer.Option(help="What the key may do.")] = Role.WRITER,
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it, once."""

    async def create(parts: Any) -> tuple[str, str]:
        if tenant_id != PLATFORM:
            await parts.tenants.get(tenant_id)
        made: tuple[str, str] = await parts.keys.create(tenant_id, role, name, "cli")
        return made

    _, key = _with_parts(data_dir, create)
    out.print(key, markup=False)


@keys.command("list")
def keys_list(tenant_id: str, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the keys of a tenant ('-': of the platform)."""
    found = _with_parts(data_dir, lambda p: p.keys.list(tenant_id))
    rows = [
        {
            "id": k.id,
            "role": str(k.role),
            "name": k.name,
            "created_at": iso(k.created_at),
            "revoked_at": iso(k.revoked_at) or "",
        }
        for k in found
    ]
    _table(rows, as_json)


@keys.command("revoke")
def keys_revoke(tenant_id: str, key_id: str, data_dir: DataDir = None) -> None:
    """Revoke a key at once."""
    _with_parts(data_dir, lambda p: p.keys.revoke(tenant_id, key_id, "cli"))
    out.print(f"key {key_id} revoked", markup=False)


@rules.command("check")
def rules_check(
    files: Annotated[list[Path], typer.Argument(help="Rules files.")], as_json: AsJson = False
) -> None:
    """Check rules files: every problem with file, line, column and reason; status 1 if any."""
    from service.rules.forecasts import looks_further
    from service.rules.loader import RuleFileError, RulesFile

    report: list[dict[str, Any]] = []
    bad = False
    for path in files:
        try:
            book = RulesFile(path, _settings().alert_cooldown_period).load()
        except RuleFileError as error:
            bad = True
            report.append({"file": str(path), "problems": [str(p) for p in error.problems]})
        else:
            if not path.exists():
                bad = True
                report.append({"file": str(path), "problems": [f"{path}: there is no such file"]})
            else:
                notes = looks_further(book.rules, _settings().trend_forecast_horizon)
                report.append(
                    {"file": str(path), "rules": len(book.rules), "problems": [], "notes": notes}
                )
    if as_json:
        out.print_json(json.dumps(report))
    for item in report if not as_json else []:
        for problem in item["problems"]:
            err.print(problem, markup=False)
        if not item["problems"]:
            out.print(f"{item['file']}: {item['rules']} rules, all well", markup=False)
            for note in item["notes"]:
                out.print(f"{item['file']}: {note}", markup=False)
    raise typer.Exit(1 if bad else 0)


@rules.command("test")
def rules_test(
    files: Annotated[list[Path], typer.Argument(help="Unit-test files, as promtool reads them.")],
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Values may differ by this share, such as 1e-9. Without it they are the same to "
            "the last bit, or the next float where a file has fuzzy_compare."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each test, for programs.")
    ] = False,
) -> None:
    """Run unit tests of rules and expressions: files of `promtool test rules`, unchanged.

    Status 0 if every test passed, 1 if one did not or a file cannot be read. With --json each test
    is one line: file, name, passed, and difference, which is empty if it passed.
    """
    from service.offline.rules_test import run

    raise typer.Exit(0 if run(files, tolerance, as_json=as_json, out=out, err=err) else 1)


def _table(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(rows))
        return
    if not rows:
        out.print("none")
        return
    columns = list(rows[0])
    width = {c: max(len(c), *(len(str(r[c])) for r in rows)) for c in columns}
    for row in [{c: c for c in columns}, *rows]:
        out.print("  ".join(str(row[c]).ljust(width[c]) for c in columns).rstrip(), markup=False)


def _with_parts(data_dir: Path | None, do: Any) -> Any:
    """Run an operation on the stores, whether the service runs or not."""
    from service.wiring import wired

    async def run() -> Any:
        async with wired(_settings(data_dir)) as parts:
            return await do(parts)

    return asyncio.run(run())


if __name__ == "__main__":
    main()
