"""An application that was never told of rotations: a pool, prepared statements, transactions, a listener.

It prints a line every two seconds, and how many errors it saw when it is stopped; exit 1 if there were any.
"""

import os
import signal
import threading
import time

import psycopg
from psycopg_pool import ConnectionPool

# What a client waits for a connection; above pgswivel's `login.patience`, which holds clients for 30 s at most.
PATIENCE_S = 40
WORKERS = 6

stopping = threading.Event()


class Counts:
    """What happened so far, by its name."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {"queries": 0, "orders": 0, "notifications": 0, "errors": 0}

    def add(self, name):
        with self.lock:
            self.counts[name] += 1

    def __str__(self):
        with self.lock:
            return ", ".join(f"{count} {name}" for name, count in self.counts.items())


def until_stopped(counts, work):
    while not stopping.is_set():
        try:
            work()
        except (psycopg.Error, TimeoutError) as error:
            counts.add("errors")
            print(f"ERROR {type(error).__name__}: {error}", flush=True)
            stopping.wait(1)


def serve(pool, counts):
    """What a request does: one query, one transaction that writes."""

    def request():
        with pool.connection() as session:
            session.execute("SELECT count(*) FROM orders WHERE placed > now() - interval '1 second'", prepare=True)
            counts.add("queries")
            with session.transaction():
                session.execute("INSERT INTO orders (amount) VALUES (%s)", [len(str(counts))], prepare=True)
                session.execute("NOTIFY placed")
            counts.add("orders")
        stopping.wait(0.05)

    until_stopped(counts, request)


def listen(url, counts):
    """A session that does nothing but wait, for as long as the application runs."""

    def session():
        with psycopg.connect(url, autocommit=True, connect_timeout=PATIENCE_S) as connection:
            connection.execute("LISTEN placed")
            while not stopping.is_set():
                for _ in connection.notifies(timeout=0.5, stop_after=1):
                    counts.add("notifications")

    until_stopped(counts, session)


def main():
    url = os.environ["DATABASE_URL"]
    counts = Counts()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    options = {"connect_timeout": PATIENCE_S}
    # Sessions are opened anew all the time, so that a rotation meets new ones too.
    with ConnectionPool(url, kwargs=options, min_size=2, max_size=WORKERS, max_lifetime=10, timeout=PATIENCE_S) as pool:
        threads = [threading.Thread(target=serve, args=(pool, counts)) for _ in range(WORKERS)]
        threads.append(threading.Thread(target=listen, args=(url, counts)))
        for thread in threads:
            thread.start()
        while not stopping.wait(2):
            print(f"{time.strftime('%H:%M:%S')} {counts}", flush=True)
        for thread in threads:
            thread.join()
    print(f"stopped: {counts}", flush=True)
    raise SystemExit(1 if counts.counts["errors"] else 0)


if __name__ == "__main__":
    main()
