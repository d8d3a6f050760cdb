//! tokio-postgres: pipelines whatever is polled together, binary results, COPY both ways.

use std::error::Error as StdError;
use std::future::poll_fn;

use bytes::Bytes;
use drivers::tls::Tls;
use drivers::{MEGABYTE, ca_file, from_runner, lines_of, md5, show};
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel, NoTls, SimpleQueryMessage};

type Outcome<T = ()> = Result<T, Box<dyn StdError + Send + Sync>>;

/// A value as it came, whatever its type.
#[derive(Debug)]
#[expect(dead_code, reason = "it is read by being shown")]
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Outcome<Self> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Outcome<Self> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

struct Session {
    client: Client,
    messages: UnboundedReceiver<AsyncMessage>,
}

fn config() -> Config {
    let mut config: Config = from_runner("DSN").parse().expect("DSN is a URL");
    config.ssl_mode(SslMode::Disable);
    config.options(format!("-c search_path={}", from_runner("SCHEMA")));
    config
}

async fn connect(config: &Config) -> Result<Session, Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, messages) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let _ = sender.send(message);
        }
    });
    Ok(Session { client, messages })
}

fn told<T>(result: Result<T, Error>) -> DbError {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error
            .as_db_error()
            .cloned()
            .unwrap_or_else(|| panic!("{error:?}")),
    }
}

fn values(messages: &[SimpleQueryMessage]) -> Vec<String> {
    let said = messages.iter().map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            format!("{:?}", (0..row.len()).map(|n| row.get(n)).collect::<Vec<_>>())
        }
        SimpleQueryMessage::CommandComplete(count) => format!("complete {count}"),
        other => format!("{other:?}")
            .split(['(', ' '])
            .next()
            .unwrap_or_default()
            .to_owned(),
    });
    said.collect()
}

async fn types(client: &Client) -> Outcome {
    for expression in lines_of("types.txt") {
        let statement = client.prepare(&format!("select {expression}")).await?;
        let kind = statement.columns()[0].type_().to_string();
        let row = client.query_one(&statement, &[]).await?;
        show(format!("binary {expression}"), (kind, row.get::<_, Raw>(0)));
        show(
            format!("text {expression}"),
            values(&client.simple_query(&format!("select {expression}")).await?),
        );
    }
    let parameters: [(&str, &(dyn ToSql + Sync)); 6] = [
        ("int8", &(1_i64 << 40)),
        ("float8", &1.5_f64),
        ("text", &"zażółć 𝄞"),
        ("bytea", &[0_u8, 255].as_slice()),
        ("int4[]", &vec![Some(1), None, Some(3)]),
        ("text", &None::<String>),
    ];
    for (cast, value) in parameters {
        let row = client.query_one(&format!("select $1::{cast}"), &[value]).await?;
        show(format!("parameter {cast}"), row.get::<_, Raw>(0));
    }
    Ok(())
}

async fn many_parameters(client: &Client) -> Outcome {
    for count in [2_000, 65_535] {
        let numbers: Vec<i32> = (0..count).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = numbers.iter().map(|n| n as _).collect();
        let places: Vec<String> = (1..=count).map(|n| format!("${n}::int4")).collect();
        let sql = format!("select sum(n) from unnest(array[{}]) n", places.join(","));
        show(
            format!("{count} parameters"),
            client.query_one(&sql, &parameters).await?.get::<_, i64>(0),
        );
    }
    Ok(())
}

async fn statements(client: &Client) -> Outcome {
    let count = "select count(*) from pg_prepared_statements where not from_sql and statement like '%+ 1'";
    let statement = client.prepare_typed("select $1 + 1", &[Type::INT4]).await?;
    for n in 0..8 {
        show(
            "prepared",
            client.query_one(&statement, &[&n]).await?.get::<_, i32>(0),
        );
    }
    show(
        "prepared statements",
        client.query_one(count, &[]).await?.get::<_, i64>(0),
    );
    drop(statement);
    show("closed", client.query_one(count, &[]).await?.get::<_, i64>(0));
    let typed = client
        .query_typed("select $1 || $2", &[(&"a", Type::TEXT), (&"b", Type::TEXT)])
        .await?;
    show("unnamed statement", typed[0].get::<_, String>(0));
    let kept = client.prepare("select 1").await?;
    client.batch_execute("deallocate all").await?;
    show(
        "deallocated behind the driver",
        told(client.query(&kept, &[]).await),
    );
    client.clear_type_cache();
    Ok(())
}

async fn portals(client: &mut Client) -> Outcome {
    let transaction = client.transaction().await?;
    let portal = transaction
        .bind("select generate_series(1, $1::int)", &[&10_000])
        .await?;
    let other = transaction
        .bind("select generate_series(1, $1::int)", &[&5])
        .await?;
    for limit in [3, 4000, 0] {
        let rows = transaction.query_portal(&portal, limit).await?;
        show(
            "portal",
            (rows.len(), rows.last().map(|row| row.get::<_, i32>(0))),
        );
        show("other portal", transaction.query_portal(&other, 2).await?.len());
    }
    transaction.commit().await?;
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = client
        .query_raw("select generate_series(1, 100000)", none)
        .await?;
    let sum = rows.try_fold(0_i64, |sum, row| async move {
        Ok(sum + i64::from(row.get::<_, i32>(0)))
    });
    show("row by row", sum.await?);
    {
        let abandoned = client
            .query_raw("select generate_series(1, 100000)", none)
            .await?;
        pin_mut!(abandoned);
        abandoned.next().await;
    }
    show(
        "after rows left unread",
        client
            .query_one("select 'usable'", &[])
            .await?
            .get::<_, String>(0),
    );
    Ok(())
}

async fn copies(client: &Client) -> Outcome {
    let sink = client.copy_in("copy copied from stdin").await?;
    pin_mut!(sink);
    for n in 0..20_000 {
        let line = format!("{n}\tnaïve {n}\t\\\\x{:02x}\n", n % 256);
        sink.feed(Bytes::from(line)).await?;
    }
    show("copy in", sink.finish().await?);
    for format in ["text", "csv", "binary"] {
        let sql = format!("copy (select * from copied order by id) to stdout (format {format})");
        let chunks: Vec<Bytes> = client.copy_out(&sql).await?.try_collect().await?;
        show(format!("copy out {format}"), (chunks.len(), md5(chunks.concat())));
    }
    {
        let abandoned = client.copy_in("copy copied from stdin").await?;
        pin_mut!(abandoned);
        abandoned.send(Bytes::from_static(b"1\tone\t\\\\x00\n")).await?;
    }
    let broken = client.copy_in("copy copied from stdin").await?;
    pin_mut!(broken);
    broken.send(Bytes::from_static(b"not a number\n")).await?;
    show("copy broken", told(broken.finish().await));
    {
        let left = client
            .copy_out("copy (select generate_series(1, 100000)) to stdout")
            .await?;
        pin_mut!(left);
        show("copy left early", left.next().await.transpose()?);
    }
    let count: i64 = client.query_one("select count(*) from copied", &[]).await?.get(0);
    show("after copies", count);
    Ok(())
}

async fn notifications(session: &mut Session) -> Outcome {
    let channel = format!("{}_channel", from_runner("SCHEMA"));
    let pid: i32 = session
        .client
        .query_one("select pg_backend_pid()", &[])
        .await?
        .get(0);
    session.client.batch_execute(&format!("listen {channel}")).await?;
    let other = connect(&config()).await?;
    other
        .client
        .execute("select pg_notify($1, 'from another')", &[&channel])
        .await?;
    session
        .client
        .execute("select pg_notify($1, 'to myself')", &[&channel])
        .await?;
    for _ in 0..2 {
        while let Some(message) = session.messages.recv().await {
            if let AsyncMessage::Notification(heard) = message {
                show(
                    "notification",
                    (
                        heard.channel() == channel,
                        heard.payload(),
                        heard.process_id() == pid,
                    ),
                );
                break;
            }
        }
    }
    session.client.batch_execute("unlisten *").await?;
    Ok(())
}

async fn notices(session: &mut Session) -> Outcome {
    session.client.query_one("select warn(3)", &[]).await?;
    for _ in 0..4 {
        if let Some(AsyncMessage::Notice(notice)) = session.messages.recv().await {
            show("notice", notice);
        }
    }
    Ok(())
}

async fn large_objects(client: &Client) -> Outcome {
    let data: Vec<u8> = (0..MEGABYTE).map(|n| (n % 256) as u8).collect();
    let oid: u32 = client
        .query_one("select lo_from_bytea(0, $1)", &[&data])
        .await?
        .get(0);
    let back: Vec<u8> = client.query_one("select lo_get($1)", &[&oid]).await?.get(0);
    show("large object", md5(back));
    show(
        "large object unlink",
        client
            .query_one("select lo_unlink($1)", &[&oid])
            .await?
            .get::<_, i32>(0),
    );
    Ok(())
}

async fn cancelling(client: &Client, tls: Option<Tls>) -> Outcome {
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let watch = connect(&config()).await?.client;
    let asleep = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
    for _ in 0..5 {
        let cancel = async {
            while watch.query_opt(asleep, &[&pid]).await?.is_none() {}
            match tls.clone() {
                None => client.cancel_token().cancel_query(NoTls).await,
                Some(tls) => client.cancel_token().cancel_query(tls).await,
            }
        };
        let (slept, cancelled) = tokio::join!(client.query("select pg_sleep(300)", &[]), cancel);
        cancelled?;
        show("cancel", told(slept));
        show(
            "after cancel",
            client
                .query_one("select 'usable'", &[])
                .await?
                .get::<_, String>(0),
        );
    }
    Ok(())
}

async fn transactions(client: &mut Client) -> Outcome {
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .start()
        .await?;
    transaction
        .execute("insert into parent values (100)", &[])
        .await?;
    let savepoint = transaction.savepoint("mine").await?;
    show(
        "unique violation",
        told(savepoint.execute("insert into parent values (100)", &[]).await),
    );
    show(
        "in a failed transaction",
        told(savepoint.query("select 1", &[]).await).code() == &SqlState::IN_FAILED_SQL_TRANSACTION,
    );
    savepoint.rollback().await?;
    let kept = transaction
        .query("select id from parent where id > 3", &[])
        .await?;
    show(
        "after the savepoint",
        kept.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(),
    );
    transaction.commit().await?;
    drop(client.transaction().await?);
    let reading = client.build_transaction().read_only(true).start().await?;
    show(
        "read only",
        told(reading.execute("delete from parent", &[]).await),
    );
    reading.rollback().await?;
    show(
        "removed",
        client.execute("delete from parent where id > 3", &[]).await?,
    );
    Ok(())
}

async fn errors(client: &Client) -> Outcome {
    for statement in lines_of("errors.txt") {
        show(
            format!("simple error {statement}"),
            told(client.simple_query(&statement).await),
        );
        show(
            format!("extended error {statement}"),
            told(client.query(&statement, &[]).await),
        );
    }
    let several = client
        .simple_query("select 1; create temp table t (); select 2 as a, null as b; ;")
        .await?;
    show("several results", values(&several));
    show(
        "several until an error",
        told(client.batch_execute("select 1; select 1/0; select 3").await),
    );
    Ok(())
}

async fn big_values(client: &Client) -> Outcome {
    let size = 50 * MEGABYTE;
    let times = i32::try_from(size / 16)?;
    let out: String = client
        .query_one("select repeat('0123456789abcdef', $1)", &[&times])
        .await?
        .get(0);
    show("50 MB out", (out.len(), md5(out)));
    let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let row = client
        .query_one("select $1::bytea, md5($1::bytea)", &[&data])
        .await?;
    let back: Vec<u8> = row.get(0);
    show(
        "50 MB there and back",
        (back.len(), md5(back), row.get::<_, String>(1)),
    );
    Ok(())
}

async fn pipelines(client: &Client) -> Outcome {
    let statement = client.prepare("select 10 / ($1::int % 50)").await?;
    let numbers: Vec<i32> = (0..500).collect();
    let asked = numbers
        .iter()
        .map(async |n| match client.query_one(&statement, &[n]).await {
            Ok(row) => row.get::<_, i32>(0).to_string(),
            Err(error) => error
                .code()
                .map(|code| code.code().to_owned())
                .unwrap_or_default(),
        });
    show("pipelined", join_all(asked).await);
    let prepared =
        try_join_all((0..50).map(|n| async move { client.prepare(&format!("select {n}")).await })).await?;
    show("prepared together", prepared.len());
    Ok(())
}

async fn settings() -> Outcome {
    let mut own = config();
    own.application_name("at startup")
        .options("-c geqo=off -c my.own=a\\ b");
    let session = connect(&own).await?;
    let sql =
        "select current_setting('application_name'), current_setting('geqo'), current_setting('my.own')";
    show("startup", values(&session.client.simple_query(sql).await?));
    show(
        "startup refused",
        told(connect(config().options("-c no_such_setting=1")).await),
    );
    show(
        "no such database",
        told(connect(config().dbname("no_such_database")).await),
    );
    let wrong = told(connect(config().password("wrong")).await);
    show(
        "wrong password",
        (wrong.code(), wrong.severity(), wrong.message().split('"').next()),
    );
    Ok(())
}

async fn encrypted() -> Outcome {
    let Some(file) = ca_file() else {
        show("verify-full", "no CA_FILE, not made");
        return Ok(());
    };
    let tls = Tls::trusting(&file);
    for (mode, binding) in [
        (SslMode::Prefer, ChannelBinding::Prefer),
        (SslMode::Require, ChannelBinding::Disable),
        (SslMode::Require, ChannelBinding::Require),
    ] {
        let (client, connection) = config()
            .ssl_mode(mode)
            .channel_binding(binding)
            .connect(tls.clone())
            .await?;
        tokio::spawn(connection);
        let text: String = client.query_one("select repeat('x', 5000000)", &[]).await?.get(0);
        show(format!("tls {mode:?} binding {binding:?}"), text.len());
        cancelling(&client, Some(tls.clone())).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let mut session = connect(&config()).await?;
    if std::env::args().nth(1).as_deref() == Some("login") {
        session.client.simple_query("select 1").await?;
        return Ok(());
    }
    types(&session.client).await?;
    many_parameters(&session.client).await?;
    statements(&session.client).await?;
    portals(&mut session.client).await?;
    copies(&session.client).await?;
    notifications(&mut session).await?;
    notices(&mut session).await?;
    large_objects(&session.client).await?;
    cancelling(&session.client, None).await?;
    transactions(&mut session.client).await?;
    errors(&session.client).await?;
    big_values(&session.client).await?;
    pipelines(&session.client).await?;
    settings().await?;
    encrypted().await
}
