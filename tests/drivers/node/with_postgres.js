// postgres.js: pipelines by itself, prepares every statement, text protocol.
import { pipeline } from "node:stream/promises";
import { Readable, Writable } from "node:stream";
import { CA_FILE, DSN, MEGABYTE, SCHEMA, ca, errorOf, isUnknownRoot, linesOf, load, md5, show, told } from "./checks.js";

const postgres = load("postgres");

function connect(more = {}) {
  const { connection, ...rest } = more;
  return postgres(DSN, { max: 1, ssl: false, onnotice() {}, connection: { search_path: SCHEMA, ...connection }, ...rest });
}

async function types(sql) {
  for (const expression of linesOf("types.txt")) {
    const rows = await sql.unsafe(`select ${expression} as value`, [], { prepare: true });
    const type = rows.columns[0].type;
    show(`type ${expression}`, [rows[0].value, type < 16384 ? type : "own"]);
    show(`raw ${expression}`, (await sql.unsafe(`select ${expression}`).raw())[0]);
    show(`simple ${expression}`, (await sql.unsafe(`select ${expression} as value`).simple())[0].value);
  }
  for (const value of [7, 2n ** 40n, 1.5, true, null, "zażółć 𝄞", new Date(0), Buffer.from([0, 255])]) {
    show(`parameter`, [value, (await sql`select ${value} as back`)[0].back]);
  }
  show("array", (await sql`select ${sql.array([1, 2, 3])}::int[] as a, ${sql.json({ b: [1] })} as j`)[0]);
  show("described", (await sql`select ${1}::int8, 'a'::text as named`.describe()).columns.map(({ name, type }) => [name, type]));
}

async function parameters(sql) {
  const numbers = Array.from({ length: 2000 }, (_, n) => n);
  show("2000 parameters", await sql.unsafe("select " + numbers.map((n) => `$${n + 1}::int8`).join("+") + " as sum", numbers));
  const rows = numbers.map((id) => ({ id, name: `row ${id}` }));
  show("insert many", (await sql`insert into copied ${sql(rows)}`).count);
  show("in", await sql`select count(*) from copied where id in ${sql(numbers.slice(5))}`);
  await sql`truncate copied`;
}

async function prepared(sql) {
  for (let n = 0; n < 8; n++) show("prepared", await sql`select ${n}::int + 1 as n`);
  show("on the server", await sql`select statement, from_sql, parameter_types::text[] from pg_prepared_statements where statement like '%+ 1 as n'`);
  await sql.unsafe("deallocate all");
  show("deallocated behind the driver", await sql`select ${1}::int + 1 as n`);
}

async function cursors(sql) {
  const sizes = [];
  await sql`select generate_series(1, 10000) as n`.cursor(3000, (rows) => { sizes.push([rows.length, rows[0].n]); });
  show("portal by 3000", sizes);
  let seen = 0;
  for await (const [row] of sql`select generate_series(1, 10) as n`.cursor()) if ((seen = row.n) === 4) break;
  show("portal left early", [seen, await sql`select 'usable'`]);
  show("portal error", told(await errorOf(sql`select 10 / (5 - n) from generate_series(1, 10) n`.cursor(2, () => {}))));
  let total = 0;
  await sql`select generate_series(1, 20000) as n`.forEach((row) => { total += row.n; });
  show("row by row", total);
}

async function copies(sql) {
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\tnaïve ${n}\t\\\\x${(n % 256).toString(16).padStart(2, "0")}\n`);
  await pipeline(Readable.from(lines), await sql`copy copied from stdin`.writable());
  for (const format of ["text", "binary"]) {
    const chunks = [];
    const out = await sql.unsafe(`copy (select * from copied order by id) to stdout (format ${format})`).readable();
    await pipeline(out, new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } }));
    show(`copy out ${format}`, md5(Buffer.concat(chunks)));
  }
  show("after copies", await sql`select count(*), sum(id) from copied`);
}

async function notifications() {
  const channel = `${SCHEMA}_channel`;
  const heard = [];
  const sql = connect();
  let wake;
  const { unlisten, state } = await sql.listen(channel, (payload) => { heard.push(payload); wake?.(); });
  const wait = async (count) => { while (heard.length < count) await new Promise((resolve) => { wake = resolve; }); };
  await sql.notify(channel, "from another");
  await wait(1);
  await sql`select pg_notify(${channel}, ${"é".repeat(3000)})`;
  await wait(2);
  show("notifications", heard.map((payload) => payload.slice(0, 20) + payload.length));
  // Not by its last query: a proxy that asks what a session holds is seen there.
  show("listener's pid", (await sql`select pid <> pg_backend_pid() as other, usename = current_user as own
    from pg_stat_activity where pid = ${state.pid}`).map(({ other, own }) => [other, own]));
  await unlisten();
  await sql.end();
}

async function largeObjects(sql) {
  const data = Buffer.from(Array.from({ length: MEGABYTE }, (_, n) => n % 256));
  const [{ oid }] = await sql`select lo_creat(-1) as oid`;
  const object = await sql.largeObject(oid);
  await object.write(data.subarray(0, 1000));
  await object.write(data.subarray(1000));
  await object.close();
  const again = await sql.largeObject(oid);
  await again.seek(10, 0);
  show("large object part", (await again.read(6))[0].data);
  show("large object size", await again.size());
  await again.close();
  show("large object unlink", await sql`select lo_unlink(${oid})`);
}

async function cancel(sql) {
  const [{ pid }] = await sql`select pg_backend_pid() as pid`;
  const watch = connect();
  for (let n = 0; n < 5; n++) {
    const query = sql`select pg_sleep(300)`;
    const refused = errorOf(query);
    while (!(await watch`select 1 from pg_stat_activity where pid = ${pid} and wait_event = 'PgSleep'`).length);
    query.cancel();
    show("cancel", told(await refused));
    show("after cancel", await sql`select 'usable', pg_backend_pid() = ${pid} as same`);
  }
  await watch.end();
}

async function transactions(sql) {
  show("transaction", await sql.begin("isolation level serializable", async (tx) => {
    await tx`insert into parent values (100)`;
    const inner = await errorOf(tx.savepoint(async (deeper) => {
      await deeper`insert into parent values (101)`;
      await deeper`insert into parent values (100)`;
    }));
    return [inner.code, await tx`select id from parent where id > 3`];
  }));
  show("rolled back", told(await errorOf(sql.begin(async (tx) => { await tx`delete from parent`; await tx`select 1/0`; }))));
  show("kept", await sql`delete from parent where id >= 100 returning id`);
  show("read only", told(await errorOf(sql.begin("read only", (tx) => tx`delete from parent`))));
}

async function errors(sql) {
  for (const statement of linesOf("errors.txt")) {
    show(`error ${statement}`, told(await errorOf(sql.unsafe(statement).simple())));
    show(`extended error ${statement}`, told(await errorOf(sql.unsafe(statement, [], { prepare: true }))));
  }
  show("several results", await sql`select 1 as a; select 2 as b`.simple());
}

async function notices() {
  const heard = [];
  const sql = connect({ onnotice: (notice) => heard.push(notice) });
  show("warn", await sql`select warn(2)`);
  show("notices", heard);
  await sql.end();
}

async function bigValues(sql) {
  const size = 50 * MEGABYTE;
  const [{ out }] = await sql`select repeat('0123456789abcdef', ${size / 16}) as out`;
  show("50 MB out", [out.length, md5(out)]);
  const [{ back, digest }] = await sql`select ${out}::text as back, md5(${out}::text) as digest`;
  show("50 MB there and back", [back.length, md5(back), digest]);
}

async function pipelined(sql) {
  const answers = await Promise.allSettled(Array.from({ length: 500 }, (_, n) => sql`select 10 / (${n}::int % 50) as n`));
  show("pipelined", answers.map((answer) => answer.value?.[0].n ?? answer.reason.code));
}

async function settings() {
  const statuses = {};
  const sql = connect({ onparameter: (name, value) => { statuses[name] = value; }, connection: { application_name: "at startup", geqo: "off", "my.own": "a b" } });
  show("startup", await sql`select current_setting('geqo') as geqo, current_setting('my.own') as own`);
  delete statuses.session_authorization;
  show("statuses", { ...statuses });
  await sql`set application_name = 'renamed'`;
  await sql`set timezone = 'Asia/Tokyo'`;
  show("status after set", [statuses.application_name, statuses.TimeZone]);
  await sql.end();
  show("startup refused", told(await errorOf(connect({ connection: { no_such_setting: 1 } })`select 1`)));
  show("no such database", told(await errorOf(connect({ database: "no_such_database" })`select 1`)));
  const wrong = await errorOf(connect({ password: "wrong" })`select 1`);
  show("wrong password", [wrong.code, wrong.severity, wrong.message.split('"')[0]]);
}

async function tls() {
  const modes = { require: "require", prefer: "prefer", allow: "allow", lax: { rejectUnauthorized: false } };
  if (CA_FILE) modes["verify-full"] = { ca };
  else show("verify-full", "no CA_FILE, not made");
  for (const [name, ssl] of Object.entries(modes)) {
    const sql = connect({ ssl });
    const [{ text }] = await sql`select repeat('x', ${5 * MEGABYTE}) as text`;
    show(`tls ${name}`, text.length);
    await sql.end();
  }
  show("tls unknown root", isUnknownRoot(await errorOf(connect({ ssl: "verify-full" })`select 1`)));
}

const sql = connect();
if (process.argv[2] === "login") {
  await sql`select 1`;
  process.exit(0);
}
await types(sql);
await parameters(sql);
await prepared(sql);
await cursors(sql);
await copies(sql);
await notifications();
await largeObjects(sql);
await cancel(sql);
await transactions(sql);
await errors(sql);
await notices();
await bigValues(sql);
await pipelined(sql);
await sql.end();
await settings();
await tls();
process.exit(0);
