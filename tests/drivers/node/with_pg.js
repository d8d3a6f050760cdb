// node-postgres: text results by default, its own cursor and COPY streams.
import { once } from "node:events";
import { pipeline } from "node:stream/promises";
import { Readable, Writable } from "node:stream";
import { CA_FILE, DSN, MEGABYTE, SCHEMA, ca, errorOf, isUnknownRoot, linesOf, load, md5, show, told } from "./checks.js";

const pg = load("pg");
const Cursor = load("pg-cursor");
const { from: copyFrom, to: copyTo } = load("pg-copy-streams");

async function connect(more = {}) {
  const client = new pg.Client({ connectionString: DSN, ssl: false, options: `-c search_path=${SCHEMA}`, ...more });
  client.statuses = {};
  client.connection.on("parameterStatus", ({ parameterName, parameterValue }) => {
    client.statuses[parameterName] = parameterValue;
  });
  await client.connect();
  return client;
}

const rowsOf = async (client, text, values) =>
  (await client.query({ text, values, rowMode: "array" })).rows;

async function types(client) {
  const raw = { getTypeParser: () => (value) => (Buffer.isBuffer(value) ? value.toString("hex") : value) };
  for (const expression of linesOf("types.txt")) {
    const text = `select ${expression}`;
    const { rows, fields } = await client.query({ text, rowMode: "array" });
    show(`type ${expression}`, [rows, fields[0].dataTypeID < 16384 ? fields[0].dataTypeID : "own", fields[0].dataTypeModifier]);
    show(`raw text ${expression}`, (await client.query({ text, types: raw, rowMode: "array" })).rows);
    show(`raw binary ${expression}`, (await client.query({ text, types: raw, binary: true, rowMode: "array" })).rows);
  }
  for (const [cast, value] of [["int4", 7], ["bool", true], ["text", "zażółć 𝄞"], ["bytea", Buffer.from([0, 255])],
    ["int4[]", [1, null, 3]], ["text[]", ["a", 'b,"c']], ["jsonb", { a: [1] }], ["text", null]]) {
    show(`parameter ${cast}`, await rowsOf(client, `select $1::${cast}`, [value]));
  }
}

async function parameters(client) {
  const numbers = Array.from({ length: 2000 }, (_, n) => n);
  show("2000 parameters", await rowsOf(client, "select " + numbers.map((n) => `$${n + 1}::int8`).join("+"), numbers));
  const most = Array(65535).fill(1);
  show("65535 parameters", await rowsOf(client, `select cardinality(array[${most.map((_, n) => `$${n + 1}::int4`)}])`, most));
}

async function prepared(client) {
  for (let n = 0; n < 8; n++) {
    show("named", (await client.query({ name: "mine", text: "select $1::int + 1 as n", values: [n] })).rows);
  }
  show("on the server", await rowsOf(client, "select name, from_sql, parameter_types::text from pg_prepared_statements"));
  await client.query("deallocate mine");
  show("deallocated behind the driver", told(await errorOf(client.query({ name: "mine", text: "select $1::int + 1 as n", values: [1] }))));
}

async function cursors(client) {
  const cursor = client.query(new Cursor("select generate_series(1, $1::int) as n", [10000], { rowMode: "array" }));
  show("portal", await cursor.read(3));
  show("portal more", (await cursor.read(5000)).length);
  await cursor.close();
  show("after close", await rowsOf(client, "select 'usable'"));
  const failing = client.query(new Cursor("select 10 / (5 - n) from generate_series(1, 10) n", [], { rowMode: "array" }));
  show("portal before its error", await failing.read(3));
  show("portal error", told(await errorOf(failing.read(3))));
  show("portal after its error", await rowsOf(client, "select 'usable'"));
  await client.query("begin");
  await client.query("declare c scroll cursor for select generate_series(1, 100)");
  show("sql cursor", await rowsOf(client, "fetch 2 from c"));
  show("sql cursor back", await rowsOf(client, "fetch backward 1 from c"));
  await client.query("rollback");
}

async function copies(client) {
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\tnaïve ${n}\t\\\\x${(n % 256).toString(16).padStart(2, "0")}\n`);
  const into = client.query(copyFrom("copy copied from stdin"));
  await pipeline(Readable.from(lines), into);
  show("copy in", into.rowCount);
  for (const format of ["text", "csv", "binary"]) {
    const chunks = [];
    await pipeline(client.query(copyTo(`copy (select * from copied order by id) to stdout (format ${format})`)),
      new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } }));
    show(`copy out ${format}`, md5(Buffer.concat(chunks)));
  }
  show("copy broken", told(await errorOf(pipeline(Readable.from(["x\n"]), client.query(copyFrom("copy copied from stdin"))))));
  const failing = (async function* () { yield lines[0]; throw new Error("abandoned"); })();
  show("copy abandoned", (await errorOf(pipeline(failing, client.query(copyFrom("copy copied from stdin"))))).message);
  show("after copies", await rowsOf(client, "select count(*) from copied"));
}

async function notifications(client) {
  const channel = `${SCHEMA}_channel`;
  const heard = [];
  client.on("notification", ({ channel: name, payload, processId }) => {
    heard.push([name === channel, payload, processId === client.processID]);
  });
  await client.query(`listen ${channel}`);
  const other = await connect();
  await other.query("select pg_notify($1, 'from another')", [channel]);
  await other.end();
  while (heard.length < 1) await once(client, "notification");
  await client.query("select pg_notify($1, 'to myself')", [channel]);
  while (heard.length < 2) await once(client, "notification");
  show("notifications", heard);
  show("backend pid", (await rowsOf(client, "select pg_backend_pid()"))[0][0] === client.processID);
  await client.query("unlisten *");
}

async function largeObjects(client) {
  const data = Buffer.from(Array.from({ length: MEGABYTE }, (_, n) => n % 256));
  const [[oid]] = await rowsOf(client, "select lo_from_bytea(0, $1)", [data]);
  show("large object", md5((await rowsOf(client, "select lo_get($1)", [oid]))[0][0]));
  show("large object unlink", await rowsOf(client, "select lo_unlink($1)", [oid]));
}

async function sleeping(client) {
  const watch = await connect();
  const asleep = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
  while (!(await rowsOf(watch, asleep, [client.processID])).length);
  await watch.end();
}

async function cancel(client) {
  for (let n = 0; n < 5; n++) {
    const query = new pg.Query("select pg_sleep(300)");
    const refused = once(query, "error");
    client.query(query);
    await sleeping(client);
    const request = new pg.Client({ connectionString: DSN, ssl: false });
    const carriedOut = once(request.connection, "end");
    request.cancel(client, query);
    show("cancel", told((await refused)[0]));
    // Until the server has closed it, the request may still reach the statement after this one.
    await carriedOut;
    show("after cancel", await rowsOf(client, "select 'usable'"));
  }
}

async function transactions(client) {
  const states = [client.getTransactionStatus?.()];
  const step = async (text) => {
    const error = await client.query(text).then(() => null, (refused) => refused.code);
    // An error is told before the status that follows it has come.
    if (error) await client.query("");
    states.push([text, error, client.getTransactionStatus?.()]);
  };
  for (const text of ["begin isolation level serializable", "insert into parent values (100)", "savepoint one",
    "insert into parent values (100)", "select 1", "rollback to one", "insert into parent values (101)",
    "release one", "commit", "commit", "begin read only", "delete from parent", "rollback"]) await step(text);
  show("transaction", states);
  show("kept", await rowsOf(client, "delete from parent where id >= 100 returning id"));
}

async function errors(client) {
  for (const statement of linesOf("errors.txt")) {
    show(`error ${statement}`, told(await errorOf(client.query(statement))));
    show(`extended error ${statement}`, told(await errorOf(client.query({ text: statement, queryMode: "extended" }))));
  }
  show("several results", (await client.query("select 1 as a; select 2 as b; set application_name = 'x'")).map((r) => [r.command, r.rows]));
  show("several until an error", told(await errorOf(client.query("select 1; select 1/0; select 3"))));
  show("empty", (await client.query("")).command);
  await client.query("set statement_timeout = 50");
  show("timeout", told(await errorOf(client.query("select pg_sleep(300)"))));
  await client.query("reset all");
}

async function notices(client) {
  const heard = [];
  client.on("notice", (notice) => heard.push(told(notice)));
  show("warn", await rowsOf(client, "select warn(2)"));
  show("notices", heard);
}

async function bigValues(client) {
  const size = 50 * MEGABYTE;
  const [[out]] = await rowsOf(client, "select repeat('0123456789abcdef', $1)", [size / 16]);
  show("50 MB out", [out.length, md5(out)]);
  const data = Buffer.alloc(size, "zażółć");
  const { rows: [[back, digest]] } = await client.query({ text: "select $1::bytea, md5($1::bytea)", values: [data], binary: true, rowMode: "array" });
  show("50 MB there and back", [back.length, md5(back), digest.toString()]);
}

async function queued(client) {
  const answers = await Promise.allSettled(Array.from({ length: 200 }, (_, n) => rowsOf(client, "select 10 / ($1::int % 50)", [n])));
  show("queued at once", answers.map((answer) => answer.value?.[0][0] ?? answer.reason.code));
  const piped = await connect({ pipelineMode: true });
  const more = await Promise.allSettled(Array.from({ length: 200 }, (_, n) => rowsOf(piped, "select 10 / ($1::int % 50)", [n])));
  show("pipelined", more.map((answer) => answer.value?.[0][0] ?? answer.reason.code));
  await piped.end();
}

async function settings(client) {
  await client.query("reset all");
  const { session_authorization, ...statuses } = client.statuses;
  show("statuses", statuses);
  await client.query("set application_name = 'renamed'; set timezone = 'Asia/Tokyo'");
  show("status after set", [client.statuses.application_name, client.statuses.TimeZone]);
  await client.query("reset all");
  const other = await connect({ application_name: "at startup", options: "-c geqo=off -c my.own=a\\ b", statement_timeout: 12345,
    client_encoding: "latin1" });
  show("startup", [other.statuses.application_name, other.statuses.client_encoding, await rowsOf(other,
    "select current_setting('geqo'), current_setting('my.own'), current_setting('statement_timeout')")]);
  await other.end();
  show("startup refused", told(await errorOf(connect({ options: "-c no_such_setting=1" }))));
  show("no such database", told(await errorOf(connect({ connectionString: DSN.replace(/[^/]*$/, "no_such_database") }))));
  const wrong = await errorOf(connect({ connectionString: DSN.replace(/:[^:@]*@/, ":wrong@") }));
  show("wrong password", [wrong.code, wrong.severity, wrong.message.split('"')[0]]);
}

async function tls() {
  const modes = { require: { rejectUnauthorized: false } };
  if (CA_FILE) Object.assign(modes, { "verify-full": { ca }, "TLS 1.2": { ca, maxVersion: "TLSv1.2" } });
  else show("verify-full", "no CA_FILE, not made");
  for (const [name, ssl] of Object.entries(modes)) {
    for (const enableChannelBinding of [false, true]) {
      const client = await connect({ ssl, enableChannelBinding });
      const [[text]] = await rowsOf(client, "select repeat('x', $1)", [5 * MEGABYTE]);
      show(`tls ${name} binding ${enableChannelBinding}`, [client.connection.stream.encrypted, text.length]);
      await client.end();
    }
  }
  show("tls unknown root", isUnknownRoot(await errorOf(connect({ ssl: {} }))));
}

const client = await connect();
if (process.argv[2] === "login") {
  await client.query("select 1");
  process.exit(0);
}
for (const check of [types, parameters, prepared, cursors, copies, notifications, largeObjects, cancel, transactions,
  errors, notices, bigValues, queued, settings]) await check(client);
await client.end();
await tls();
