// pgx 4: batches are pipelines, CopyFrom is binary, a cancelled context is a cancel request.
package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

const megabyte = 1 << 20

var ctx = context.Background()

func show(name string, values ...interface{}) {
	fmt.Printf("%s: %q\n", name, fmt.Sprint(values...))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func linesOf(file string) []string {
	text, err := os.ReadFile(file)
	must(err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func sum(data []byte) string {
	digest := md5.Sum(data)
	return hex.EncodeToString(digest[:])
}

func config(change func(*pgx.ConnConfig)) *pgx.ConnConfig {
	config, err := pgx.ParseConfig(os.Getenv("DSN") + "?sslmode=disable")
	must(err)
	config.RuntimeParams["search_path"] = os.Getenv("SCHEMA")
	if change != nil {
		change(config)
	}
	return config
}

func connect(change func(*pgx.ConnConfig)) *pgx.Conn {
	conn, err := pgx.ConnectConfig(ctx, config(change))
	must(err)
	return conn
}

// Everything the server said about an error.
func told(err error) string {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return fmt.Sprintf("no error of the server: %T", err)
	}
	return fmt.Sprintf("%+v", *said)
}

func one(conn *pgx.Conn, sql string, arguments ...interface{}) string {
	rows, err := conn.Query(ctx, sql, arguments...)
	must(err)
	defer rows.Close()
	answer := []string{}
	for rows.Next() {
		values, err := rows.Values()
		must(err)
		answer = append(answer, fmt.Sprint(values))
	}
	if rows.Err() != nil {
		return told(rows.Err())
	}
	return strings.Join(answer, " ")
}

func types(conn *pgx.Conn) {
	low := conn.PgConn()
	for _, expression := range linesOf("types.txt") {
		for _, format := range []int16{0, 1} {
			result := low.ExecParams(ctx, "select "+expression, nil, nil, nil, []int16{format}).Read()
			must(result.Err)
			show(fmt.Sprintf("type %s format %d", expression, format), result.Rows[0][0] == nil, result.Rows[0][0])
		}
		multi, err := low.Exec(ctx, "select "+expression).ReadAll()
		must(err)
		show("simple "+expression, multi[0].Rows[0][0], multi[0].CommandTag)
	}
	show("parameters", one(conn, "select $1::int8, $2::text, $3::bytea, $4::float8[], $5::bool",
		int64(1)<<40, "zażółć 𝄞", []byte{0, 255}, []float64{1.5, -2}, nil))
}

func manyParameters(conn *pgx.Conn) {
	for _, count := range []int{2000, 65535} {
		places, numbers := make([]string, count), make([]interface{}, count)
		for n := range places {
			places[n], numbers[n] = fmt.Sprintf("$%d::int4", n+1), n
		}
		show(fmt.Sprintf("%d parameters", count), one(conn, "select sum(n) from unnest(array["+strings.Join(places, ",")+"]) n", numbers...))
	}
}

func prepared(conn *pgx.Conn) {
	described, err := conn.Prepare(ctx, "mine", "select $1::int + 1 as n, 'a'::text")
	must(err)
	show("described", described.ParamOIDs, len(described.Fields), string(described.Fields[0].Name))
	for n := 0; n < 8; n++ {
		show("prepared", one(conn, "mine", n))
	}
	must(conn.Deallocate(ctx, "mine"))
	_, err = conn.PgConn().Exec(ctx, "deallocate all").ReadAll()
	must(err)
	show("gone", told(conn.PgConn().ExecPrepared(ctx, "mine", [][]byte{[]byte("1")}, nil, nil).Read().Err))
	for _, mode := range []bool{true, false} {
		simple := connect(func(config *pgx.ConnConfig) { config.PreferSimpleProtocol = mode; config.BuildStatementCache = nil })
		show(fmt.Sprintf("simple protocol %t", mode), one(simple, "select $1::int, $2::text", 7, "it's"))
		must(simple.Close(ctx))
	}
}

func copies(conn *pgx.Conn) {
	rows := make([][]interface{}, 20000)
	for n := range rows {
		rows[n] = []interface{}{n, fmt.Sprintf("naïve %d", n), []byte{byte(n)}}
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "name", "bytes"}, pgx.CopyFromRows(rows))
	must(err)
	show("copy from", count)
	for _, format := range []string{"text", "csv", "binary"} {
		var out bytes.Buffer
		tag, err := conn.PgConn().CopyTo(ctx, &out, "copy (select * from copied order by id) to stdout (format "+format+")")
		must(err)
		show("copy to "+format, tag, sum(out.Bytes()))
		if format == "text" {
			tag, err = conn.PgConn().CopyFrom(ctx, &out, "copy copied from stdin")
			must(err)
			show("copy back", tag)
		}
	}
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("not a number\n"), "copy copied from stdin")
	show("copy broken", told(err))
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"parent"}, []string{"id"}, pgx.CopyFromRows([][]interface{}{{700}, {700}}))
	show("copy not unique", told(err))
	show("after copies", one(conn, "select count(*) from copied"))
}

func notifications(conn *pgx.Conn) {
	channel := os.Getenv("SCHEMA") + "_channel"
	_, err := conn.Exec(ctx, "listen "+channel)
	must(err)
	other := connect(nil)
	one(other, "select pg_notify($1, 'from another')", channel)
	must(other.Close(ctx))
	one(conn, "select pg_notify($1, 'to myself')", channel)
	for n := 0; n < 2; n++ {
		heard, err := conn.WaitForNotification(ctx)
		must(err)
		show("notification", heard.Channel == channel, heard.Payload, heard.PID == conn.PgConn().PID())
	}
	show("backend pid", one(conn, "select pg_backend_pid() = $1", int64(conn.PgConn().PID())))
	one(conn, "select 1 from pg_sleep(0)")
	_, err = conn.Exec(ctx, "unlisten *")
	must(err)
}

func largeObjects(conn *pgx.Conn) {
	tx, err := conn.Begin(ctx)
	must(err)
	defer tx.Rollback(ctx)
	objects := tx.LargeObjects()
	oid, err := objects.Create(ctx, 0)
	must(err)
	object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	must(err)
	written, err := object.Write(bytes.Repeat([]byte("0123456789abcdef"), megabyte/16))
	must(err)
	_, err = object.Seek(10, 0)
	must(err)
	part := make([]byte, 8)
	_, err = object.Read(part)
	must(err)
	show("large object", written, string(part))
	must(objects.Unlink(ctx, oid))
}

func cancel(conn *pgx.Conn) {
	watch := connect(nil)
	defer watch.Close(ctx)
	for n := 0; n < 5; n++ {
		done := make(chan error)
		go func() {
			_, err := conn.Exec(ctx, "select pg_sleep(300)")
			done <- err
		}()
		for one(watch, "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", int64(conn.PgConn().PID())) == "" {
		}
		must(conn.PgConn().CancelRequest(ctx))
		show("cancel", told(<-done), one(conn, "select 'usable'"))
	}
}

func transactions(conn *pgx.Conn) {
	status := func() string { return string(conn.PgConn().TxStatus()) }
	states := status()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	must(err)
	_, err = tx.Exec(ctx, "insert into parent values (100)")
	must(err)
	states += status()
	savepoint, err := tx.Begin(ctx)
	must(err)
	_, err = savepoint.Exec(ctx, "insert into parent values (100)")
	states += status()
	show("unique violation", told(err))
	_, err = savepoint.Exec(ctx, "select 1")
	show("in a failed transaction", told(err))
	must(savepoint.Rollback(ctx))
	states += status()
	show("after the savepoint", one(conn, "select id from parent where id > 3"))
	must(tx.Commit(ctx))
	show("states", states+status())
	reading, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	must(err)
	_, err = reading.Exec(ctx, "delete from parent")
	show("read only", told(err))
	show("commit of a failed transaction", reading.Commit(ctx))
	show("removed", one(conn, "delete from parent where id > 3 returning id"))
}

func refusals(conn *pgx.Conn) {
	for _, statement := range linesOf("errors.txt") {
		_, err := conn.PgConn().Exec(ctx, statement).ReadAll()
		show("simple error "+statement, told(err))
		_, err = conn.Exec(ctx, statement)
		show("extended error "+statement, told(err))
	}
	results, err := conn.PgConn().Exec(ctx, "select 1; select 1/0; select 2").ReadAll()
	show("several until an error", len(results), told(err))
}

func bigValues(conn *pgx.Conn) {
	var out string
	must(conn.QueryRow(ctx, "select repeat('0123456789abcdef', $1)", 50*megabyte/16).Scan(&out))
	show("50 MB out", len(out), " ", sum([]byte(out)))
	data := bytes.Repeat([]byte{0, 1, 2, 255}, 50*megabyte/4)
	var back []byte
	var digest string
	must(conn.QueryRow(ctx, "select $1::bytea, md5($1::bytea)", data).Scan(&back, &digest))
	show("50 MB there and back", len(back), " ", sum(back), " ", digest)
}

func batches(conn *pgx.Conn) {
	batch := &pgx.Batch{}
	for n := 0; n < 500; n++ {
		batch.Queue("select $1::int * 2", n)
	}
	results := conn.SendBatch(ctx, batch)
	total := 0
	for n := 0; n < 500; n++ {
		var value int
		must(results.QueryRow().Scan(&value))
		total += value
	}
	must(results.Close())
	show("batch", total)
	failing := &pgx.Batch{}
	failing.Queue("insert into parent values (800)")
	failing.Queue("insert into parent values (800)")
	failing.Queue("insert into parent values (801)")
	results = conn.SendBatch(ctx, failing)
	for n := 0; n < 3; n++ {
		_, err := results.Exec()
		show("in a failing batch", err == nil)
	}
	show("failing batch", told(results.Close()))
	show("nothing of it", one(conn, "select id from parent where id >= 800"))
}

func settings() {
	heard := []string{}
	conn := connect(func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
			heard = append(heard, fmt.Sprintf("%+v", *notice))
		}
		config.RuntimeParams["application_name"] = "at startup"
		config.RuntimeParams["my.own"] = "a b"
	})
	defer conn.Close(ctx)
	one(conn, "select warn(2)")
	show("notices", heard)
	for _, name := range []string{"server_version", "server_encoding", "client_encoding", "TimeZone", "DateStyle", "IntervalStyle",
		"integer_datetimes", "standard_conforming_strings", "is_superuser", "application_name", "search_path", "scram_iterations"} {
		show("status "+name, conn.PgConn().ParameterStatus(name))
	}
	_, err := conn.Exec(ctx, "set timezone = 'Asia/Tokyo'")
	must(err)
	show("status after set", conn.PgConn().ParameterStatus("TimeZone"))
	show("startup", one(conn, "select current_setting('my.own'), current_setting('application_name')"))
	refused := func(change func(*pgx.ConnConfig)) string {
		_, err := pgx.ConnectConfig(ctx, config(change))
		return told(err)
	}
	show("startup refused", refused(func(config *pgx.ConnConfig) { config.RuntimeParams["no_such_setting"] = "1" }))
	show("no such database", refused(func(config *pgx.ConnConfig) { config.Database = "no_such_database" }))
	_, err = pgx.ConnectConfig(ctx, config(func(config *pgx.ConnConfig) { config.Password = "wrong" }))
	var said *pgconn.PgError
	show("wrong password", errors.As(err, &said), said.Code, said.Severity)
}

func encrypted() {
	modes := map[string]*tls.Config{"require": {InsecureSkipVerify: true}}
	names := []string{"require"}
	if file := os.Getenv("CA_FILE"); file != "" {
		pem, err := os.ReadFile(file)
		must(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		host := config(nil).Host
		modes["verify-full"] = &tls.Config{RootCAs: roots, ServerName: host}
		modes["TLS 1.2"] = &tls.Config{RootCAs: roots, ServerName: host, MaxVersion: tls.VersionTLS12}
		names = append(names, "verify-full", "TLS 1.2")
	} else {
		show("verify-full", "no CA_FILE, not made")
	}
	for _, name := range names {
		conn := connect(func(config *pgx.ConnConfig) { config.TLSConfig = modes[name] })
		_, encrypted := conn.PgConn().Conn().(*tls.Conn)
		show("tls "+name, encrypted, len(one(conn, "select repeat('x', 5000000)")))
		cancel(conn)
		must(conn.Close(ctx))
	}
	_, err := pgx.ConnectConfig(ctx, config(func(config *pgx.ConnConfig) { config.TLSConfig = &tls.Config{ServerName: config.Host} }))
	show("tls unknown root", errors.As(err, &x509.UnknownAuthorityError{}))
}

func main() {
	conn := connect(nil)
	if len(os.Args) > 1 && os.Args[1] == "login" {
		must(conn.Ping(ctx))
		return
	}
	types(conn)
	manyParameters(conn)
	prepared(conn)
	copies(conn)
	notifications(conn)
	largeObjects(conn)
	cancel(conn)
	transactions(conn)
	refusals(conn)
	bigValues(conn)
	batches(conn)
	must(conn.Close(ctx))
	settings()
	encrypted()
}
