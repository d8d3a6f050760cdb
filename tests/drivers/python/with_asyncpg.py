"""asyncpg: binary results and the extended protocol only, its own implementation of everything."""

import asyncio
import hashlib
import io
import os
import ssl
import sys

import asyncpg

DSN, CA, SCHEMA = os.environ["DSN"], os.environ.get("CA_FILE"), os.environ["SCHEMA"]
MEGABYTE = 1 << 20


def show(name, value):
    print(f"{name}: {value!r}", flush=True)


def lines_of(file):
    with open(file, encoding="utf-8") as lines:
        return lines.read().splitlines()


async def connect(**more):
    return await asyncpg.connect(DSN, **{"ssl": False, "server_settings": {"search_path": SCHEMA}, **more})


def told(error):
    fields = {name: getattr(error, name, None) for name in asyncpg.exceptions.PostgresError._field_map.values()}
    return type(error).__name__, {name: value for name, value in fields.items() if value is not None}


async def error_of(action):
    try:
        await action
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return error
    raise AssertionError("an error was expected")


async def types(conn):
    for expression in lines_of("types.txt"):
        statement = await conn.prepare(f"select {expression}")
        show(f"type {expression}", ([a.type.name for a in statement.get_attributes()], await statement.fetchval()))
        show(f"simple {expression}", await conn.execute(f"select {expression}"))
    for cast, value in (("int2", 7), ("int8", 2**40), ("float8", 1.5), ("text", "zażółć 𝄞"), ("bytea", b"\0\xff"),
                        ("int4[]", [1, None, 3]), ("text[]", ["a", "b,c"]), ("mood", "happy"), ("pair", (1, "one"))):
        show(f"parameter {cast}", await conn.fetchval(f"select $1::{cast}", value))


async def parameters(conn):
    numbers = list(range(2000))
    show("2000 parameters", await conn.fetchval("select " + " + ".join(f"${n + 1}::int8" for n in numbers), *numbers))
    await conn.executemany("insert into copied values ($1, $2, $3)", [(n, str(n), b"") for n in range(5000)])
    show("executemany", await conn.fetchrow("select count(*), sum(id) from copied"))
    show("executemany error", told(await error_of(
        conn.executemany("insert into parent values ($1)", [(n,) for n in (500, 501, 500, 502)]))))
    show("after executemany", await conn.fetch("select id from parent"))


async def prepared(conn):
    statement = await conn.prepare("select $1::int + $2", name="mine")
    show("named statement", [await statement.fetchval(n, 1) for n in range(8)])
    show("named on the server", await conn.fetch("select name, from_sql, parameter_types::text[] from pg_prepared_statements where name = 'mine'"))
    show("explain", (await statement.explain(1, 1))[0]["Plan"]["Node Type"])
    for n in range(150):
        await conn.fetchval(f"select {n} + $1::int", n)
    show("statement cache", await conn.fetchval("select count(*) <= 102 from pg_prepared_statements"))
    await conn.execute("create table shape (a int); insert into shape values (1)")
    shaped = await conn.prepare("select * from shape")
    show("before the shape changes", await shaped.fetch())
    await conn.execute("alter table shape add column b text default 'b'")
    show("after", told(await error_of(shaped.fetch())))
    show("on a fresh statement", await conn.fetch("select * from shape"))
    await conn.execute("drop table shape; deallocate all")
    show("deallocated behind the driver", told(await error_of(statement.fetchval(1, 1))))
    await conn.reload_schema_state()


async def cursors(conn):
    async with conn.transaction():
        cursor = await conn.cursor("select generate_series(1, 10000) as n, repeat('x', 20)")
        show("portal", await cursor.fetch(2))
        show("portal forward", await cursor.forward(4000))
        show("portal rest", (await cursor.fetchrow(), len(await cursor.fetch(100000))))
        total = 0
        async for row in conn.cursor("select generate_series(1, 5000)", prefetch=7):
            total += row[0]
        show("portal by sevens", total)
        one, two = await conn.cursor("select generate_series(1, 9)"), await conn.cursor("select generate_series(11, 19)")
        show("portals side by side", [(await c.fetchrow())[0] for c in (one, two, one, two)])


async def copies(conn):
    await conn.execute("truncate copied")
    rows = [(n, f"naïve\t{n}\\", bytes([n % 256])) for n in range(20000)]
    show("copy records", await conn.copy_records_to_table("copied", records=rows, schema_name=SCHEMA))
    out = io.BytesIO()
    show("copy out", await conn.copy_from_query("select * from copied where id < $1 order by id", 100000, output=out))
    show("copied out", (len(out.getvalue()), hashlib.md5(out.getvalue()).hexdigest()))
    binary = io.BytesIO()
    show("copy table", await conn.copy_from_table("copied", output=binary, format="binary", schema_name=SCHEMA))
    out.seek(0)
    show("copy in", await conn.copy_to_table("copied", source=out, schema_name=SCHEMA))
    show("copy csv broken", told(await error_of(
        conn.copy_to_table("copied", source=io.BytesIO(b"x,y,z,\n"), format="csv", schema_name=SCHEMA))))

    async def broken_source():
        yield b"1\tone\t\\\\x00\n" * 1000
        raise ValueError("abandoned")
    try:
        await conn.copy_to_table("copied", source=broken_source(), schema_name=SCHEMA)
    except ValueError as error:
        show("copy abandoned", str(error))
    show("after copies", await conn.fetchrow("select count(*), md5(string_agg(name, '' order by id, name)) from copied"))


async def notifications(conn):
    channel, heard, three = f"{SCHEMA}_channel", [], asyncio.Event()

    def hear(connection, pid, channel_name, payload):
        heard.append((connection is conn, pid, channel_name == channel, payload))
        if len(heard) == 3:
            three.set()
    await conn.add_listener(channel, hear)
    other = await connect()
    await other.execute("select pg_notify($1, $2)", channel, "from another")
    await other.execute(f"notify {channel}")
    other_pid = other.get_server_pid()
    await other.close()
    await conn.execute("select pg_notify($1, $2)", channel, "to myself")
    await asyncio.wait_for(three.wait(), 30)
    names = {other_pid: "the other's pid", conn.get_server_pid(): "my own pid"}
    show("notifications", [(c, names.get(pid), n, payload) for c, pid, n, payload in heard])
    show("backend pid", conn.get_server_pid() == await conn.fetchval("select pg_backend_pid()"))
    await conn.remove_listener(channel, hear)


async def large_objects(conn):
    async with conn.transaction():
        data = bytes(range(256)) * 4096
        oid = await conn.fetchval("select lo_from_bytea(0, $1)", data)
        show("large object", hashlib.md5(await conn.fetchval("select lo_get($1)", oid)).hexdigest())
        show("large object unlink", await conn.fetchval("select lo_unlink($1)", oid))


async def sleeping(conn):
    watch = await connect()
    while not await watch.fetchval("select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'",
                                   conn.get_server_pid()):
        await asyncio.sleep(0)
    await watch.close()


async def cancel(conn):
    for _ in range(5):
        query = asyncio.create_task(conn.execute("select pg_sleep(300)"))
        await sleeping(conn)
        query.cancel()
        try:
            await query
        except asyncio.CancelledError:
            show("cancel by task", await conn.fetchval("select 'usable'"))
    try:
        await conn.fetch("select pg_sleep(300)", timeout=0.2)
    except asyncio.TimeoutError:
        show("cancel by timeout", await conn.fetchval("select 'usable'"))


async def transactions(conn):
    outer = conn.transaction(isolation="repeatable_read")
    await outer.start()
    await conn.execute("insert into parent values (100)")
    inner = conn.transaction()
    await inner.start()
    show("unique violation", told(await error_of(conn.execute("insert into parent values (100)"))))
    show("in a failed transaction", told(await error_of(conn.execute("select 1"))))
    await inner.rollback()
    show("savepoint", (conn.is_in_transaction(), await conn.fetch("select id from parent where id > 3")))
    await outer.rollback()
    show("rolled back", (conn.is_in_transaction(), await conn.fetch("select id from parent where id > 3")))
    async with conn.transaction(readonly=True, deferrable=True, isolation="serializable"):
        show("read only", told(await error_of(conn.execute("insert into parent values (100)"))))


async def errors(conn):
    for statement in lines_of("errors.txt"):
        show(f"simple error {statement}", told(await error_of(conn.execute(statement))))
        show(f"extended error {statement}", told(await error_of(conn.fetch(statement))))
    show("parameter error", str(await error_of(conn.fetch("select $1::int", "x"))))
    show("script", await conn.execute("select 1; create table scripted (); drop table scripted"))
    show("script with an error", told(await error_of(conn.execute("create table scripted (); select 1/0"))))
    show("script undone", await conn.fetchval("select to_regclass('scripted')"))


async def notices(conn):
    heard = []
    conn.add_log_listener(lambda _, message: heard.append((type(message).__name__, told(message))))
    show("warn", await conn.fetchval("select warn(2)"))
    while len(heard) < 3:
        await asyncio.sleep(0)
    show("notices", heard)


async def big_values(conn):
    size = 50 * MEGABYTE
    out = await conn.fetchval("select repeat('0123456789abcdef', $1)", size // 16)
    show("50 MB out", (len(out), hashlib.md5(out.encode()).hexdigest()))
    data = bytes(range(256)) * (size // 256)
    back, digest = await conn.fetchrow("select $1::bytea, md5($1::bytea)", data)
    show("50 MB in and back", (len(back), hashlib.md5(back).hexdigest(), digest))


async def settings(conn):
    for name in ("server_encoding", "client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "integer_datetimes",
                 "standard_conforming_strings", "is_superuser", "application_name", "default_transaction_read_only",
                 "in_hot_standby", "scram_iterations", "search_path", "server_version"):
        show(f"status {name}", getattr(conn.get_settings(), name, None))
    await conn.execute("set application_name = 'renamed'; set timezone = 'Asia/Tokyo'")
    show("status after set", (conn.get_settings().application_name, conn.get_settings().TimeZone))
    await conn.reset()
    show("status after reset", (conn.get_settings().application_name, conn.get_settings().TimeZone))
    other = await connect(server_settings={"application_name": "at startup", "geqo": "off", "my.own": "a b"})
    show("startup", await other.fetchrow("select current_setting('geqo'), current_setting('my.own'), current_setting('application_name')"))
    await other.close()
    show("startup refused", told(await error_of(connect(server_settings={"no_such_setting": "1"}))))
    show("no such database", told(await error_of(connect(database="no_such_database"))))
    wrong = await error_of(connect(password="wrong"))
    show("wrong password", (wrong.sqlstate, str(wrong).split('"')[0]))
    other = await connect(server_settings={"client_encoding": "latin1"})
    show("another encoding", (other.get_settings().client_encoding, await other.fetchval("select 'Grüße'")))
    await other.close()


async def tls():
    lax = ssl.create_default_context()
    lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
    modes = {"disable": "disable", "allow": "allow", "prefer": "prefer", "require": "require", "context": lax}
    if CA:
        modes["verify-full"] = ssl.create_default_context(cafile=CA)
    else:
        show("verify-full", "no CA_FILE, not made")
    for name, mode in modes.items():
        conn = await connect(ssl=mode)
        text = await conn.fetchval("select repeat('x', $1)", 5 * MEGABYTE)
        show(f"tls {name}", (conn._transport.get_extra_info("sslcontext") is not None, len(text)))
        query = asyncio.create_task(conn.execute("select pg_sleep(300)"))
        await sleeping(conn)
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
        show(f"tls {name} after cancel", await conn.fetchval("select 'usable'"))
        await conn.close()
    try:
        await connect(ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        show("tls unknown root", error.reason)


async def main():
    conn = await connect()
    for check in (types, parameters, prepared, cursors, copies, notifications, large_objects, cancel, transactions,
                  errors, notices, big_values, settings):
        await check(conn)
    await conn.close()
    await tls()


async def login():
    only = await asyncpg.connect(DSN, ssl=False)
    await only.execute("select 1")
    await only.close()


asyncio.run(login() if sys.argv[1:] == ["login"] else main())
