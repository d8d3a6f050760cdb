"""psycopg 3: libpq underneath, so also its pipeline, its channel binding and its lo calls."""

import hashlib
import os
import sys

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

DSN, CA, SCHEMA = os.environ["DSN"], os.environ.get("CA_FILE"), os.environ["SCHEMA"]
MEGABYTE = 1 << 20


def show(name, value):
    print(f"{name}: {value!r}", flush=True)


def lines_of(file):
    with open(file, encoding="utf-8") as lines:
        return lines.read().splitlines()


def connect(**more):
    settings = {"sslmode": "disable", "options": f"-c search_path={SCHEMA}", "autocommit": True}
    return psycopg.connect(DSN, **{**settings, **more})


def md5(data):
    return hashlib.md5(data).hexdigest()


def told(error):
    fields = {f.name: error.diag.__getattribute__(f.name.lower()) for f in pq.DiagnosticField
              if hasattr(error.diag, f.name.lower())}
    return type(error).__name__, {name: value for name, value in fields.items() if value is not None}


def types(conn):
    for expression in lines_of("types.txt"):
        for binary in (False, True):
            cursor = conn.cursor(binary=binary)
            cursor.execute(f"select {expression}")
            raw = cursor.pgresult.get_value(0, 0)
            column = cursor.description[0]
            # Types made by the schema have oids of their own in each run.
            oid = column.type_code if column.type_code < 16384 else "own"
            show(f"type {expression} {'binary' if binary else 'text'}",
                 (oid, column.internal_size, column.precision, column.scale, raw))
    values = [None, True, 7, 2**40, 1.5, "zażółć 𝄞", b"\0\xff", [1, None, 3], ["a", "b,c"]]
    for value in values:
        show(f"parameter {value!r}", conn.execute("select %s", (value,)).fetchone())
        show(f"binary parameter {value!r}", conn.execute("select %b", (value,), binary=True).fetchone())


def parameters(conn):
    numbers = list(range(2000))
    row = conn.execute("select " + " + ".join(["%s::int8"] * 2000), numbers).fetchone()
    show("2000 parameters", row)
    show("65535 parameters", conn.execute("select array[" + ",".join(["%s::int4"] * 65535) + "]",
                                          [1] * 65535).fetchone()[0].count(1))


def prepared(conn):
    for n in range(10):
        show(f"prepared {n}", conn.execute("select %s::int + 1", (n,), prepare=True).fetchone())
    show("prepared statements",
         conn.execute("select count(*), bool_and(not from_sql) from pg_prepared_statements where statement like '%+ 1'").fetchall())
    result = conn.pgconn.prepare(b"named", b"select $1::int, $2::text", [23, 25])
    show("prepare named", pq.ExecStatus(result.status).name)
    described = conn.pgconn.describe_prepared(b"named")
    show("describe named", ([described.param_type(i) for i in range(described.nparams)],
                            [described.fname(i) for i in range(described.nfields)]))
    result = conn.pgconn.exec_prepared(b"named", [b"\0\0\0\x07", b"seven"], param_formats=[1, 0], result_format=1)
    show("execute named", (result.get_value(0, 0), result.get_value(0, 1)))
    conn.execute("prepare by_sql as select 41 + 1")
    show("execute by sql", conn.execute("execute by_sql").fetchone())
    conn.execute("deallocate all")
    conn._prepared.clear()
    show("after deallocate", told(error_of(lambda: conn.execute("execute by_sql"))))


def error_of(action):
    try:
        action()
    except psycopg.Error as error:
        return error
    raise AssertionError("an error was expected")


def cursors(conn):
    with conn.transaction():
        with conn.cursor(name="server_side", scrollable=True) as cursor:
            cursor.execute("select generate_series(1, 10000), repeat('x', 100)")
            show("cursor first", cursor.fetchmany(3))
            total = sum(row[0] for row in cursor.fetchmany(5000))
            cursor.scroll(-1)
            show("cursor scrolled", (total, cursor.fetchone()[0], len(cursor.fetchall())))
    with conn.cursor() as cursor:
        rows = cursor.stream("select generate_series(1, 100000)")
        show("row by row", sum(row[0] for row in rows))
    conn.execute("declare held cursor with hold for select generate_series(1, 5)")
    show("with hold", conn.execute("fetch 3 from held").fetchall())
    conn.execute("close held")


def copies(conn):
    with conn.cursor() as cursor:
        with cursor.copy("copy copied from stdin") as copy:
            for n in range(20000):
                copy.write_row((n, f"naïve\t{n}\\", bytes([n % 256])))
        show("copy in", (cursor.rowcount, cursor.statusmessage))
        digest = hashlib.md5()
        with cursor.copy("copy (select * from copied order by id) to stdout") as copy:
            for data in copy:
                digest.update(data)
        show("copy out", digest.hexdigest())
        digest, count = hashlib.md5(), 0
        with cursor.copy("copy (select * from copied order by id) to stdout (format binary)") as copy:
            for data in copy:
                digest.update(data)
                count += 1
        show("copy out binary", (digest.hexdigest(), count))
        with cursor.copy("copy copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text", "bytea"])
            copy.write_row((-1, "binary", b"\0\1"))
        show("copy in binary", conn.execute("select * from copied where id < 0").fetchall())

    def abandon():
        with conn.cursor() as cursor, cursor.copy("copy copied from stdin") as copy:
            copy.write("1\tone\t\\\\x00\n")
            raise ValueError("abandoned")
    try:
        abandon()
    except ValueError as error:
        show("copy abandoned", str(error))

    def broken():
        with conn.cursor() as cursor, cursor.copy("copy copied from stdin") as copy:
            copy.write("not a number\n")
    show("copy broken", told(error_of(broken)))
    try:
        with conn.cursor() as cursor, cursor.copy("copy (select generate_series(1, 1000000)) to stdout") as copy:
            show("copy out left early", bytes(copy.read()))
            raise ValueError("left")
    except ValueError as error:
        show("copy out", str(error))
    show("session after copies", (conn.info.transaction_status.name, conn.execute("select count(*) from copied").fetchone()))


def notifications(conn):
    channel = f"{SCHEMA}_channel"
    conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    with connect() as other:
        for n in range(3):
            other.execute("select pg_notify(%s, %s)", (channel, f"from another {n}"))
        other_pid = other.info.backend_pid
    for notify in conn.notifies(timeout=30, stop_after=3):
        show("notification", (notify.channel == channel, notify.payload, notify.pid == other_pid))
    conn.execute("select pg_notify(%s, %s)", (channel, "to myself" + "é" * 3900))
    for notify in conn.notifies(timeout=30, stop_after=1):
        show("self notification", (notify.payload[:9], len(notify.payload), notify.pid == conn.info.backend_pid))
    show("backend pid", conn.info.backend_pid == conn.execute("select pg_backend_pid()").fetchone()[0])
    conn.execute("unlisten *")


def large_objects(conn):
    with conn.transaction():
        data = bytes(range(256)) * 4096
        oid = conn.execute("select lo_from_bytea(0, %b)", (data,)).fetchone()[0]
        descriptor = conn.execute("select lo_open(%s, 393216)", (oid,)).fetchone()[0]
        conn.execute("select lo_lseek(%s, 1000, 0)", (descriptor,))
        show("large object part", conn.execute("select loread(%s, 8)", (descriptor,)).fetchone())
        show("large object whole", md5(conn.execute("select lo_get(%s)", (oid,), binary=True).fetchone()[0]))
        show("large object unlink", conn.execute("select lo_unlink(%s)", (oid,)).fetchone())


def cancelled(conn, how):
    """Sends pg_sleep, waits until the server says that it sleeps, cancels."""
    pgconn = conn.pgconn
    with connect() as watch:
        pgconn.send_query(b"select pg_sleep(300)")
        pgconn.flush()
        while not watch.execute("select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'",
                                (conn.info.backend_pid,)).fetchone():
            pass
    how(conn)
    result = pgconn.get_result()
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    while pgconn.get_result():
        pass
    return state, result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY), conn.execute("select 'usable'").fetchone()


def cancel(conn):
    show("cancel", cancelled(conn, lambda c: c.pgconn.get_cancel().cancel()))
    for _ in range(5):
        show("cancel safe", cancelled(conn, lambda c: c.cancel_safe(timeout=30)))
    with connect(sslmode="require") as encrypted:
        show("cancel over TLS", cancelled(encrypted, lambda c: c.cancel_safe(timeout=30)))
    conn.cancel_safe(timeout=30)
    show("cancel with nothing running", conn.execute("select 'usable'").fetchone())


def transactions(conn):
    states = [conn.info.transaction_status.name]
    conn.autocommit = False
    conn.execute("insert into parent values (100)")
    states.append(conn.info.transaction_status.name)
    conn.execute("savepoint one")
    conn.execute("insert into parent values (101)")
    error_of(lambda: conn.execute("insert into parent values (101)"))
    states.append(conn.info.transaction_status.name)
    show("in a failed transaction", told(error_of(lambda: conn.execute("select 1"))))
    conn.execute("rollback to one")
    states.append(conn.info.transaction_status.name)
    conn.commit()
    conn.autocommit = True
    show("transaction states", states)
    show("after the savepoint", conn.execute("select id from parent where id > 3").fetchall())
    try:
        with conn.transaction():
            with conn.transaction():
                conn.execute("delete from parent where id = 100")
            raise psycopg.Rollback
    except psycopg.Rollback:
        pass
    show("rolled back", conn.execute("select count(*) from parent where id = 100").fetchone())
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    with conn.transaction():
        show("serializable", conn.execute("select current_setting('transaction_isolation')").fetchone())
        show("read only", told(error_of(lambda: conn.execute("delete from parent where id = 100"))))
    conn.isolation_level = conn.read_only = None
    conn.execute("delete from parent where id > 3")


def errors(conn):
    for statement in lines_of("errors.txt"):
        show(f"error {statement}", told(error_of(lambda: conn.execute(statement))))
        show(f"extended error {statement}", told(error_of(lambda: conn.execute(statement, prepare=True))))
    conn.execute("set statement_timeout = 50")
    show("timeout", told(error_of(lambda: conn.execute("select pg_sleep(300)"))))
    conn.execute("reset statement_timeout")
    show("several results", [r[0] for r in several(conn, "select 1; select 2; select 3")])
    show("several until an error", told(error_of(lambda: conn.execute("select 1; select 1/0; select 3"))))
    show("empty query", conn.execute("").statusmessage)


def several(conn, statements):
    cursor = conn.execute(statements)
    while True:
        yield cursor.fetchone()
        if not cursor.nextset():
            return


def notices(conn):
    heard = []
    conn.add_notice_handler(lambda diag: heard.append(
        (diag.severity, diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint, diag.context)))
    show("warn", conn.execute("select warn(3)").fetchone())
    show("notices", heard)
    heard.clear()
    conn.execute("select warn(1000)")
    show("many notices", len(heard))


def big_values(conn):
    size = 50 * MEGABYTE
    out = conn.execute("select repeat('0123456789abcdef', %s)", (size // 16,)).fetchone()[0]
    show("50 MB out", (len(out), md5(out.encode())))
    data = bytes(range(256)) * (size // 256)
    show("50 MB in", conn.execute("select length(%b::bytea), md5(%b::bytea)", (data, b"")).fetchone()[0])
    back = conn.execute("select %b::bytea, md5(%b::bytea)", (data, data), binary=True).fetchone()
    show("50 MB there and back", (len(back[0]), md5(back[0]), back[1]))


def encodings(conn):
    show("encoding", (conn.info.encoding, conn.info.parameter_status("client_encoding")))
    for encoding, text in (("latin1", "Grüße"), ("euc_jp", "日本語"), ("win1250", "zażółć"), ("sjis", "日本")):
        with connect(client_encoding=encoding) as other:
            other.execute("create temp table words (word text)")
            other.execute("insert into words values (%s)", (text,))
            row = other.execute("select word, length(word), octet_length(word) from words").fetchone()
            show(f"encoding {encoding}", (row, other.execute("select word from words").pgresult.get_value(0, 0)))
    with connect(client_encoding="latin1") as other:
        show("not in latin1", told(error_of(lambda: other.execute("select U&'\\65E5'"))))
    with connect(client_encoding="sql_ascii") as other:
        show("not utf-8", told(error_of(lambda: other.execute(b"select '\xff\xfe'"))))


def pipelines(conn):
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("select %s::int * 2", (n,)) for n in range(500)]
        pipeline.sync()
        show("pipeline", sum(c.fetchone()[0] for c in cursors))
    failures = []
    try:
        with conn.pipeline() as pipeline:
            conn.execute("insert into parent values (200)")
            conn.execute("insert into parent values (200)")
            conn.execute("insert into parent values (201)")
            pipeline.sync()
            conn.execute("insert into parent values (202)")
    except psycopg.Error as error:
        failures.append(told(error))
    show("pipeline error", failures)
    show("pipeline after an error", conn.execute("select id from parent where id >= 200 order by 1").fetchall())
    conn.execute("delete from parent where id >= 200")
    pgconn = conn.pgconn
    pgconn.enter_pipeline_mode()
    for n in range(3):
        pgconn.send_query_params(b"select $1::int", [str(n).encode()])
        pgconn.send_flush_request()
        pgconn.flush()
        show("flush without sync", pgconn.get_result().get_value(0, 0))
        pgconn.get_result()
    pgconn.pipeline_sync()
    show("then sync", pq.ExecStatus(pgconn.get_result().status).name)
    pgconn.exit_pipeline_mode()


def settings(conn):
    for name in ("server_version", "server_encoding", "client_encoding", "TimeZone", "DateStyle", "IntervalStyle",
                 "integer_datetimes", "standard_conforming_strings", "is_superuser", "application_name",
                 "default_transaction_read_only", "in_hot_standby", "scram_iterations", "search_path"):
        show(f"status {name}", conn.info.parameter_status(name))
    conn.execute("set application_name = 'renamed'; set timezone = 'Asia/Tokyo'; set datestyle = 'German'")
    show("status after set", [conn.info.parameter_status(n) for n in ("application_name", "TimeZone", "DateStyle")])
    conn.execute("reset all")
    show("status after reset", [conn.info.parameter_status(n) for n in ("application_name", "TimeZone", "DateStyle")])
    with connect(application_name="at startup", options=f"-c search_path={SCHEMA} -c geqo=off -c work_mem=7MB -c my.own=a\\ b") as other:
        show("startup", (other.info.parameter_status("application_name"), other.execute(
            "select current_setting('geqo'), current_setting('work_mem'), current_setting('my.own')").fetchone()))
        other.execute("discard all")
        show("after discard all", other.execute("select current_setting('work_mem'), current_setting('my.own')").fetchone())
    show("startup refused", str(error_of(lambda: connect(options="-c no_such_setting=1"))).split("FATAL:")[-1])
    show("no such database", str(error_of(lambda: connect(dbname="no_such_database"))).split("FATAL:")[-1])


def tls():
    modes = [{"sslmode": "disable"}, {"sslmode": "allow"}, {"sslmode": "prefer"},
             {"sslmode": "require"}, {"sslmode": "require", "channel_binding": "require"},
             {"sslmode": "prefer", "gssencmode": "disable"},
             {"sslmode": "require", "require_auth": "scram-sha-256"},
             {"sslmode": "require", "ssl_min_protocol_version": "TLSv1.3"},
             {"sslmode": "require", "ssl_max_protocol_version": "TLSv1.2"}]
    if CA:
        modes += [{"sslmode": "verify-ca", "sslrootcert": CA},
                  {"sslmode": "verify-full", "sslrootcert": CA, "channel_binding": "require"}]
    else:
        show("verify-full", "no CA_FILE, not made")
    if psycopg.pq.version() >= 170000 and connect().info.server_version >= 170000:
        modes.append({"sslmode": "require", "sslnegotiation": "direct"})
    for mode in modes:
        label = {k: v for k, v in mode.items() if k != "sslrootcert"}
        with connect(**mode) as conn:
            text = conn.execute("select repeat('x', %s)", (5 * MEGABYTE,)).fetchone()[0]
            show(f"tls {label}", (bool(conn.pgconn.ssl_in_use), len(text)))
    wrong = error_of(lambda: connect(sslmode="verify-full", sslrootcert="/dev/null"))
    show("tls wrong root", "certificate" in str(wrong))
    # In TLS 1.2 and without it alike, a wrong password has one SQLSTATE and one text after the user's name.
    wrong = error_of(lambda: connect(password="wrong"))
    show("wrong password", (str(wrong).split("FATAL:")[-1].split('"')[0]))
    if psycopg.pq.version() >= 180000:
        with connect(max_protocol_version="latest") as conn:
            show("latest protocol", (conn.execute("select 1").fetchone(), cancelled(conn, lambda c: c.cancel_safe(timeout=30))))


def main():
    with connect() as conn:
        for check in (types, parameters, prepared, cursors, copies, notifications, large_objects, cancel, transactions,
                      errors, notices, big_values, encodings, pipelines, settings):
            check(conn)
    tls()


if sys.argv[1:] == ["login"]:
    with psycopg.connect(DSN, sslmode="disable") as only:
        only.execute("select 1")
else:
    main()
