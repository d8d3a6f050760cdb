//! sqlx: prepares and caches every statement, describes before it executes.

use std::error::Error as StdError;

use drivers::{MEGABYTE, ca_file, from_runner, lines_of, md5, show};
use futures_util::TryStreamExt;
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgDatabaseError, PgListener, PgRow, PgSslMode, PgValueFormat,
};
use sqlx::{
    AssertSqlSafe, Column, Connection, Either, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef,
};

type Outcome<T = ()> = Result<T, Box<dyn StdError + Send + Sync>>;

fn options() -> PgConnectOptions {
    let options: PgConnectOptions = from_runner("DSN").parse().expect("DSN is a URL");
    options
        .ssl_mode(PgSslMode::Disable)
        .options([("search_path", from_runner("SCHEMA"))])
}

async fn connect() -> sqlx::Result<PgConnection> {
    PgConnection::connect_with(&options()).await
}

/// Everything the server said about an error.
fn told<T>(result: sqlx::Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(sqlx::Error::Database(error)) => {
            let said: &PgDatabaseError = error.downcast_ref();
            format!(
                "{:?} {} {:?} {:?} {:?} at {:?} in {:?} of {:?} {:?} {:?} {:?} {:?} from {:?}",
                said.severity(),
                said.code(),
                said.message(),
                said.detail(),
                said.hint(),
                said.position(),
                said.r#where(),
                said.schema(),
                said.table(),
                said.column(),
                said.data_type(),
                said.constraint(),
                (said.file(), said.line(), said.routine()),
            )
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn raw(row: &PgRow) -> Outcome<Vec<(String, Option<Vec<u8>>)>> {
    let mut values = Vec::new();
    for n in 0..row.len() {
        let value = row.try_get_raw(n)?;
        let binary = matches!(value.format(), PgValueFormat::Binary);
        let format = format!(
            "{} {}",
            value.type_info().name(),
            if binary { "binary" } else { "text" }
        );
        let bytes = if value.is_null() {
            None
        } else {
            Some(value.as_bytes()?.to_vec())
        };
        values.push((format, bytes));
    }
    Ok(values)
}

async fn types(connection: &mut PgConnection) -> Outcome {
    for expression in lines_of("types.txt") {
        let sql = format!("select {expression}");
        let row = sqlx::query(AssertSqlSafe(sql.clone()))
            .fetch_one(&mut *connection)
            .await?;
        show(format!("prepared {expression}"), raw(&row)?);
        let row = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .fetch_one(&mut *connection)
            .await?;
        show(format!("simple {expression}"), raw(&row)?);
        let described = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
        let columns = described.columns().iter();
        show(
            format!("described {expression}"),
            columns
                .map(|c| (c.name(), c.type_info().name()))
                .collect::<Vec<_>>(),
        );
    }
    let row = sqlx::query("select $1, $2, $3, $4, $5")
        .bind(1_i64 << 40)
        .bind("zażółć 𝄞")
        .bind([0_u8, 255].as_slice())
        .bind(vec![Some(1.5_f64), None])
        .bind(None::<bool>)
        .fetch_one(connection)
        .await?;
    show("parameters", raw(&row)?);
    Ok(())
}

async fn many_parameters(connection: &mut PgConnection) -> Outcome {
    for count in [2_000, 65_535] {
        let places: Vec<String> = (1..=count).map(|n| format!("${n}::int4")).collect();
        let sql = format!("select sum(n) from unnest(array[{}]) n", places.join(","));
        let query = (0..count).fold(sqlx::query_scalar(AssertSqlSafe(sql)), |query, n| query.bind(n));
        let sum: i64 = query.fetch_one(&mut *connection).await?;
        show(format!("{count} parameters"), sum);
    }
    Ok(())
}

async fn statements(connection: &mut PgConnection) -> Outcome {
    for n in 0..300 {
        let sql = format!("select $1 + {n}");
        let sum: i32 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(n)
            .fetch_one(&mut *connection)
            .await?;
        assert_eq!(sum, 2 * n);
    }
    let cached: i64 = sqlx::query_scalar("select count(*) from pg_prepared_statements")
        .fetch_one(&mut *connection)
        .await?;
    show("statements kept", (cached, connection.cached_statements_size()));
    connection.clear_cached_statements().await?;
    let left: i64 = sqlx::raw_sql("select count(*) from pg_prepared_statements")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    show("statements after clearing", left);
    let mut rows = sqlx::query("select generate_series(1, 100000)").fetch(&mut *connection);
    let mut sum = 0_i64;
    while let Some(row) = rows.try_next().await? {
        sum += i64::from(row.get::<i32, _>(0));
    }
    drop(rows);
    show("row by row", sum);
    let first = sqlx::query("select generate_series(1, 100000)")
        .fetch(&mut *connection)
        .try_next()
        .await?;
    show("left after one", first.map(|row| row.get::<i32, _>(0)));
    let usable: String = sqlx::query_scalar("select 'usable'")
        .fetch_one(&mut *connection)
        .await?;
    show("then", usable);
    sqlx::query("set timezone = 'Asia/Tokyo'")
        .execute(&mut *connection)
        .await?;
    let zone: String = sqlx::query_scalar("show timezone")
        .fetch_one(&mut *connection)
        .await?;
    show("set", zone);
    connection.ping().await?;
    show("version", connection.server_version_num());
    Ok(())
}

async fn copies(connection: &mut PgConnection) -> Outcome {
    let lines: String = (0..20_000)
        .map(|n| format!("{n}\tnaïve {n}\t\\\\x{:02x}\n", n % 256))
        .collect();
    let mut copy = connection.copy_in_raw("copy copied from stdin").await?;
    for part in lines.as_bytes().chunks(10_007) {
        copy.send(part).await?;
    }
    show("copy in", copy.finish().await?);
    for sql in [
        "copy (select * from copied order by id) to stdout",
        "copy (select * from copied order by id) to stdout (format binary)",
    ] {
        let chunks: Vec<_> = connection.copy_out_raw(sql).await?.try_collect().await?;
        show("copy out", (chunks.len(), md5(chunks.concat())));
    }
    let mut copy = connection.copy_in_raw("copy copied from stdin").await?;
    copy.send(&b"1\tone\t\\\\x00\n"[..]).await?;
    copy.abort("abandoned").await?;
    let mut copy = connection.copy_in_raw("copy copied from stdin").await?;
    copy.send(&b"not a number\n"[..]).await?;
    show("copy broken", told(copy.finish().await));
    let count: i64 = sqlx::query_scalar("select count(*) from copied")
        .fetch_one(&mut *connection)
        .await?;
    show("after copies", count);
    Ok(())
}

async fn notifications() -> Outcome {
    let channel = format!("{}_channel", from_runner("SCHEMA"));
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .connect_with(options())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    let own: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut listener)
        .await?;
    sqlx::query("select pg_notify($1, 'from another')")
        .bind(&channel)
        .execute(&pool)
        .await?;
    sqlx::query("select pg_notify($1, 'to myself')")
        .bind(&channel)
        .execute(&mut listener)
        .await?;
    for _ in 0..2 {
        let heard = listener.recv().await?;
        show(
            "notification",
            (
                heard.channel() == channel,
                heard.payload(),
                heard.process_id() == own.unsigned_abs(),
            ),
        );
    }
    drop(listener);
    pool.close().await;
    Ok(())
}

async fn large_objects(connection: &mut PgConnection) -> Outcome {
    let data: Vec<u8> = (0..MEGABYTE).map(|n| (n % 256) as u8).collect();
    let oid: sqlx::postgres::types::Oid = sqlx::query_scalar("select lo_from_bytea(0, $1)")
        .bind(&data)
        .fetch_one(&mut *connection)
        .await?;
    let back: Vec<u8> = sqlx::query_scalar("select lo_get($1)")
        .bind(oid)
        .fetch_one(&mut *connection)
        .await?;
    show("large object", md5(back));
    let gone: i32 = sqlx::query_scalar("select lo_unlink($1)")
        .bind(oid)
        .fetch_one(connection)
        .await?;
    show("large object unlink", gone);
    Ok(())
}

/// sqlx sends no cancel requests of its own; another session asks for it.
async fn cancelling(connection: &mut PgConnection) -> Outcome {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await?;
    let mut watch = connect().await?;
    let cancel = async {
        let asleep =
            "select pg_cancel_backend(pid) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
        while sqlx::query(asleep)
            .bind(pid)
            .fetch_optional(&mut watch)
            .await?
            .is_none()
        {}
        Ok::<_, sqlx::Error>(())
    };
    let (slept, cancelled) = tokio::join!(
        sqlx::query("select pg_sleep(300)").execute(&mut *connection),
        cancel
    );
    cancelled?;
    show("cancel", told(slept));
    let usable: String = sqlx::query_scalar("select 'usable'")
        .fetch_one(connection)
        .await?;
    show("after cancel", usable);
    Ok(())
}

async fn transactions(connection: &mut PgConnection) -> Outcome {
    let insert = "insert into parent values (100)";
    let mut outer = connection.begin().await?;
    sqlx::query(insert).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    show(
        "unique violation",
        told(sqlx::query(insert).execute(&mut *inner).await),
    );
    show(
        "in a failed transaction",
        told(sqlx::query("select 1").execute(&mut *inner).await),
    );
    inner.rollback().await?;
    let kept: Vec<i32> = sqlx::query_scalar("select id from parent where id > 3")
        .fetch_all(&mut *outer)
        .await?;
    show("after the savepoint", kept);
    outer.commit().await?;
    drop(connection.begin().await?);
    let mut reading = connection
        .begin_with("begin isolation level serializable read only")
        .await?;
    show(
        "read only",
        told(sqlx::query("delete from parent").execute(&mut *reading).await),
    );
    reading.rollback().await?;
    show(
        "removed",
        sqlx::query("delete from parent where id > 3")
            .execute(connection)
            .await?
            .rows_affected(),
    );
    Ok(())
}

async fn errors(connection: &mut PgConnection) -> Outcome {
    for statement in lines_of("errors.txt") {
        show(
            format!("simple error {statement}"),
            told(
                sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                    .execute(&mut *connection)
                    .await,
            ),
        );
        show(
            format!("extended error {statement}"),
            told(
                sqlx::query(AssertSqlSafe(statement.clone()))
                    .execute(&mut *connection)
                    .await,
            ),
        );
    }
    let mut several =
        sqlx::raw_sql("select 1; create temp table t (); select 2, null").fetch_many(&mut *connection);
    while let Some(step) = several.try_next().await? {
        match step {
            Either::Left(done) => show("done", done.rows_affected()),
            Either::Right(row) => show("row", raw(&row)?),
        }
    }
    drop(several);
    sqlx::query("select warn(500)").execute(&mut *connection).await?;
    show(
        "after notices",
        sqlx::query("select 1").execute(connection).await?.rows_affected(),
    );
    Ok(())
}

async fn big_values(connection: &mut PgConnection) -> Outcome {
    let size = 50 * MEGABYTE;
    let out: String = sqlx::query_scalar("select repeat('0123456789abcdef', $1)")
        .bind(i32::try_from(size / 16)?)
        .fetch_one(&mut *connection)
        .await?;
    show("50 MB out", (out.len(), md5(out)));
    let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let (back, digest): (Vec<u8>, String) = sqlx::query_as("select $1, md5($1)")
        .bind(&data)
        .fetch_one(connection)
        .await?;
    show("50 MB there and back", (back.len(), md5(back), digest));
    Ok(())
}

async fn settings() -> Outcome {
    let named = options()
        .application_name("at startup")
        .options([("geqo", "off"), ("my.own", "a b")]);
    let mut connection = PgConnection::connect_with(&named).await?;
    let row = sqlx::query(
        "select current_setting('application_name'), current_setting('geqo'), current_setting('my.own')",
    )
    .fetch_one(&mut connection)
    .await?;
    show("startup", raw(&row)?);
    connection.close().await?;
    show(
        "startup refused",
        told(PgConnection::connect_with(&options().options([("no_such_setting", "1")])).await),
    );
    show(
        "no such database",
        told(PgConnection::connect_with(&options().database("no_such_database")).await),
    );
    let wrong = PgConnection::connect_with(&options().password("wrong")).await;
    let refused = wrong
        .err()
        .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    show("wrong password", refused);
    Ok(())
}

async fn encrypted() -> Outcome {
    let mut modes = vec![PgSslMode::Allow, PgSslMode::Prefer, PgSslMode::Require];
    match ca_file() {
        Some(_) => modes.extend([PgSslMode::VerifyCa, PgSslMode::VerifyFull]),
        None => show("verify-full", "no CA_FILE, not made"),
    }
    for mode in modes {
        let verified = matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        let mut options = options().ssl_mode(mode);
        if let (true, Some(file)) = (verified, ca_file()) {
            options = options.ssl_root_cert(file);
        }
        let mut connection = PgConnection::connect_with(&options).await?;
        let text: String = sqlx::query_scalar("select repeat('x', 5000000)")
            .fetch_one(&mut connection)
            .await?;
        show(format!("tls {mode:?}"), text.len());
        connection.close().await?;
    }
    let unknown = PgConnection::connect_with(&options().ssl_mode(PgSslMode::VerifyFull)).await;
    show(
        "tls unknown root",
        matches!(unknown, Err(sqlx::Error::Tls(_) | sqlx::Error::Io(_))),
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let mut connection = connect().await?;
    if std::env::args().nth(1).as_deref() == Some("login") {
        sqlx::query("select 1").execute(&mut connection).await?;
        return Ok(());
    }
    types(&mut connection).await?;
    many_parameters(&mut connection).await?;
    statements(&mut connection).await?;
    copies(&mut connection).await?;
    notifications().await?;
    large_objects(&mut connection).await?;
    cancelling(&mut connection).await?;
    transactions(&mut connection).await?;
    errors(&mut connection).await?;
    big_values(&mut connection).await?;
    connection.close().await?;
    settings().await?;
    encrypted().await
}
