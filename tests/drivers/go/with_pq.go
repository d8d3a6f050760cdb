// lib/pq: database/sql, text by default, one statement at a time.
package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
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

func dsn(parameters string) string {
	mode := ""
	if !strings.Contains(parameters, "sslmode") {
		mode = "&sslmode=disable"
	}
	return os.Getenv("DSN") + "?search_path=" + os.Getenv("SCHEMA") + mode + parameters
}

func open(parameters string) *sql.DB {
	db, err := sql.Open("postgres", dsn(parameters))
	must(err)
	return db
}

func connect(parameters string) *sql.Conn {
	conn, err := open(parameters).Conn(ctx)
	must(err)
	return conn
}

func told(err error) string {
	var said *pq.Error
	if !errors.As(err, &said) {
		return fmt.Sprintf("no error of the server: %T %v", err, err)
	}
	return fmt.Sprintf("%+v", *said)
}

func one(conn *sql.Conn, query string, arguments ...interface{}) string {
	rows, err := conn.QueryContext(ctx, query, arguments...)
	if err != nil {
		return told(err)
	}
	defer rows.Close()
	answer := []string{}
	for rows.Next() {
		var value interface{}
		must(rows.Scan(&value))
		answer = append(answer, fmt.Sprintf("%T %q", value, fmt.Sprint(value)))
	}
	if rows.Err() != nil {
		return told(rows.Err())
	}
	return strings.Join(answer, " ")
}

func types() {
	for _, binary := range []string{"no", "yes"} {
		conn := connect("&binary_parameters=" + binary)
		for _, expression := range linesOf("types.txt") {
			show("simple "+expression, one(conn, "select "+expression))
			show("extended "+expression+" binary parameters "+binary, one(conn, "select "+expression+" where $1", true))
		}
		show("parameters", one(conn, "select ($1::int8, $2::text, $3::bytea, $4::float8[])::text", int64(1)<<40, "zażółć 𝄞", []byte{0, 255}, pq.Array([]float64{1.5, -2})))
		must(conn.Close())
	}
}

func manyParameters(conn *sql.Conn) {
	places, numbers := make([]string, 2000), make([]interface{}, 2000)
	for n := range places {
		places[n], numbers[n] = fmt.Sprintf("$%d::int4", n+1), n
	}
	show("2000 parameters", one(conn, "select sum(n) from unnest(array["+strings.Join(places, ",")+"]) n", numbers...))
}

func prepared(conn *sql.Conn) {
	statement, err := conn.PrepareContext(ctx, "select $1::int + 1")
	must(err)
	for n := 0; n < 8; n++ {
		var value int
		must(statement.QueryRow(n).Scan(&value))
		show("prepared", value)
	}
	show("on the server", one(conn, "select parameter_types::text from pg_prepared_statements"))
	must(statement.Close())
	show("closed", one(conn, "select count(*) from pg_prepared_statements"))
}

func copies(conn *sql.Conn) {
	tx, err := conn.BeginTx(ctx, nil)
	must(err)
	statement, err := tx.Prepare(pq.CopyIn("copied", "id", "name", "bytes"))
	must(err)
	for n := 0; n < 20000; n++ {
		_, err = statement.Exec(n, fmt.Sprintf("naïve\t%d\\", n), []byte{byte(n)})
		must(err)
	}
	_, err = statement.Exec()
	must(err)
	must(statement.Close())
	must(tx.Commit())
	show("copy in", one(conn, "select count(*) || md5(string_agg(name || bytes::text, '' order by id)) from copied"))
	tx, err = conn.BeginTx(ctx, nil)
	must(err)
	statement, err = tx.Prepare(pq.CopyIn("copied", "id"))
	must(err)
	_, err = statement.Exec("not a number")
	must(err)
	_, err = statement.Exec()
	show("copy broken", told(err))
	must(tx.Rollback())
	show("after copies", one(conn, "select count(*) from copied"))
}

func notifications(conn *sql.Conn) {
	channel := os.Getenv("SCHEMA") + "_channel"
	listener := pq.NewListener(dsn(""), time.Second, time.Second, nil)
	must(listener.Listen(channel))
	one(conn, "select pg_notify($1, 'from another')", channel)
	heard := <-listener.Notify
	show("notification", heard.Channel == channel, heard.Extra,
		one(conn, "select count(*) from pg_stat_activity where pid = $1 and pid = pg_backend_pid()", heard.BePid))
	must(listener.Ping())
	must(listener.Close())
}

// lib/pq gives up a connection whose context ended, so each cancel has one of its own.
func cancel() {
	watch := connect("")
	for n := 0; n < 5; n++ {
		conn := connect("")
		var pid int
		must(conn.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid))
		ending, end := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			_, err := conn.ExecContext(ending, "select pg_sleep(300)")
			done <- err
		}()
		for one(watch, "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", pid) == "" {
		}
		end()
		show("cancel", told(<-done))
	}
	must(watch.Close())
}

func transactions(conn *sql.Conn) {
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	must(err)
	for _, statement := range []string{"insert into parent values (100)", "savepoint one", "insert into parent values (100)", "select 1",
		"rollback to one", "insert into parent values (101)", "release one"} {
		_, err = tx.Exec(statement)
		show(statement, err == nil)
	}
	must(tx.Commit())
	show("kept", one(conn, "delete from parent where id > 3 returning id"))
	tx, err = conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	must(err)
	_, err = tx.Exec("delete from parent")
	show("read only", told(err))
	show("commit of a failed transaction", tx.Commit())
}

func refusals(conn *sql.Conn) {
	for _, statement := range linesOf("errors.txt") {
		_, err := conn.ExecContext(ctx, statement)
		show("simple error "+statement, told(err))
		_, err = conn.PrepareContext(ctx, statement)
		show("prepare "+statement, err == nil)
	}
	rows, err := conn.QueryContext(ctx, "select 1; select 'two'")
	must(err)
	results := []interface{}{}
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var value interface{}
			must(rows.Scan(&value))
			results = append(results, value)
		}
	}
	must(rows.Close())
	show("several results", results)
}

func bigValues(conn *sql.Conn) {
	var out string
	must(conn.QueryRowContext(ctx, "select repeat('0123456789abcdef', $1)", 50*megabyte/16).Scan(&out))
	show("50 MB out", len(out), " ", sum([]byte(out)))
	data := bytes.Repeat([]byte{0, 1, 2, 255}, 50*megabyte/4)
	var back []byte
	var digest string
	must(conn.QueryRowContext(ctx, "select $1::bytea, md5($1::bytea)", data).Scan(&back, &digest))
	show("50 MB there and back", len(back), " ", sum(back), " ", digest)
}

func settings() {
	heard := []string{}
	base, err := pq.NewConnector(dsn("&application_name=at+startup&geqo=off"))
	must(err)
	db := sql.OpenDB(pq.ConnectorWithNoticeHandler(base, func(notice *pq.Error) { heard = append(heard, told(notice)) }))
	conn, err := db.Conn(ctx)
	must(err)
	show("startup", one(conn, "select current_setting('application_name') || current_setting('geqo')"))
	one(conn, "select warn(2)")
	show("notices", heard)
	must(db.Close())
	show("startup refused", told(open("&no_such_setting=1").Ping()))
	show("no such database", told(open("&dbname=no_such_database").Ping()))
	var said *pq.Error
	show("wrong password", errors.As(open("&password=wrong").Ping(), &said), said.Code, said.Severity)
}

func encrypted() {
	modes := []string{"&sslmode=require"}
	if file := os.Getenv("CA_FILE"); file != "" {
		modes = append(modes, "&sslmode=verify-ca&sslrootcert="+file, "&sslmode=verify-full&sslrootcert="+file)
	} else {
		show("verify-full", "no CA_FILE, not made")
	}
	for _, mode := range modes {
		conn := connect(mode)
		show("tls "+strings.Split(mode, "&")[1], len(one(conn, "select repeat('x', 5000000)")))
		must(conn.Close())
	}
	show("tls unknown root", open("&sslmode=verify-full").Ping() != nil)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "login" {
		must(open("").Ping())
		return
	}
	types()
	conn := connect("")
	manyParameters(conn)
	prepared(conn)
	copies(conn)
	notifications(conn)
	cancel()
	transactions(conn)
	refusals(conn)
	bigValues(conn)
	must(conn.Close())
	settings()
	encrypted()
}
