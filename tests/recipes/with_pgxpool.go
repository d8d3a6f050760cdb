package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v4/pgxpool"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func order(connection *pgxpool.Conn, amount int) (placed int) {
	const sql = "INSERT INTO orders (amount) VALUES ($1) RETURNING amount"
	must(connection.QueryRow(context.Background(), sql, amount).Scan(&placed))
	return placed
}

func main() {
	// RECIPE
	acquire := func() *pgxpool.Conn {
		connection, err := pool.Acquire(context.Background())
		must(err)
		return connection
	}
	known := acquire()
	order(known, 1)
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)
	// As many as the pool has open already, and one more.
	for range make([]int, 2) {
		order(acquire(), 0)
	}
	fmt.Println(order(known, 2) + order(acquire(), 3))
}
