"""A fresh PostgreSQL for every run, with pgswivel in front of it or not."""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PATIENCE_S = 30
# What the suites ask of a server beyond its defaults.
SETTINGS = ["fsync=off", "max_connections=300", "max_prepared_transactions=64", "wal_level=logical", "max_wal_senders=10",
            "default_text_search_config=pg_catalog.english"]


def cache():
    default = "/var/cache/pgswivel" if os.geteuid() == 0 else Path.home() / ".cache/pgswivel"
    return Path(os.environ.get("PGSWIVEL_CACHE") or default)


def drop_privileges():
    """Postgres refuses to run as root, and the suites need not."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own(path):
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for each in (path, *Path(path).rglob("*")):
            os.chown(each, nobody.pw_uid, nobody.pw_gid)


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def wait_for(port, process, log):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}:\n{Path(log).read_text(errors='replace')}")


class Servers:
    def __init__(self, pgswivel, major, directory):
        self.bin = cache() / "postgres" / major / "bin"
        self.directory = directory
        self.pgswivel = directory / "pgswivel"
        # SQLAlchemy's tests replace capital letters in the URL that they are given.
        self.password = secrets.token_hex(18)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        shutil.copy(pgswivel, self.pgswivel)
        (directory / "password").write_text(self.password)
        (directory / "secret.json").write_text(json.dumps({"username": "postgres", "password": self.password}))
        own(directory)

    def __enter__(self):
        self.tool("initdb", "-D", self.directory / "template", "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync", f"--pwfile={self.directory / 'password'}")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory, ignore_errors=True)

    def tool(self, name, *arguments, **environment):
        done = subprocess.run([self.bin / name, *arguments], cwd=self.directory, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
                              **drop_privileges())
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def started(self, directory, through):
        """Yields the port to connect to, and the password of the superuser postgres, who owns the database clients."""
        home = self.directory / "run"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        shutil.copytree(self.directory / "template", home / "data", symlinks=True)
        (home / "data").chmod(0o700)
        own(home)
        with contextlib.ExitStack() as running:
            server = free_port()
            options = [word for setting in SETTINGS for word in ("-c", setting)]
            self.start(running, [self.bin / "postgres", "-D", home / "data", "-h", "127.0.0.1", "-p", str(server), "-k", home,
                                 *options], directory / "postgres.log", server)
            self.wait_until_ready(server)
            self.tool("psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(server), "-U", "postgres", "-c",
                      "create database clients", "postgres", PGPASSWORD=self.password, PGSSLMODE="disable")
            if not through:
                yield server, self.password
                return
            port = free_port()
            self.configure(home / "pgswivel.toml", port, server)
            self.start(running, [self.pgswivel, "run", "--config", home / "pgswivel.toml"], directory / "pgswivel.log", port)
            yield port, self.password

    def wait_until_ready(self, port):
        """It listens before it lets anyone in."""
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("the server does not get ready")
            time.sleep(0.05)

    def start(self, running, command, log, port):
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory,
                                       start_new_session=True, **drop_privileges())
        running.callback(stop, process)
        wait_for(port, process, log)

    def configure(self, path, port, server):
        path.write_text(f"""
[listen]
address = "127.0.0.1:{port}"
[role.postgres]
password = {{ file = "{self.directory / 'password'}" }}
upstream = "server"
secret = "server"
[upstream.server]
hosts = ["127.0.0.1:{server}"]
tls = {{ mode = "disable" }}
[secret.server]
store = "file"
id = "{self.directory / 'secret.json'}"
[admin]
address = "127.0.0.1:{free_port()}"
""")
        own(path)


def stop(process):
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
