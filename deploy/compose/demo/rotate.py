"""Rotates the credential of a secret again and again, as an AWS rotation function does with alternating users.

The other user gets a new password, AWSPENDING says so, then AWSCURRENT moves. When pgswivel says that nothing uses the old
user, as of a read of the store after that, it is locked and its sessions are ended: if that was not true, the application
says so.
"""

import json
import os
import re
import secrets
import time
import urllib.request

import boto3
import psycopg
from psycopg import sql

USERS = ("orders_a", "orders_b")
SECRET_ID = os.environ["SECRET_ID"]
METRICS = os.environ["PGSWIVEL_METRICS"]
EVERY_S = float(os.environ["ROTATE_EVERY_S"])
# How long a rotation waits to be told that it may revoke; then it leaves the old credential alone.
REVOKE_PATIENCE_S = float(os.environ.get("REVOKE_PATIENCE_S", "15"))
READ = re.compile(r"^pgswivel_credential_read_timestamp_seconds\{[^}]*\} (\S+)$", re.MULTILINE)

store = boto3.client("secretsmanager", endpoint_url=os.environ["SECRETS_ENDPOINT"])


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def execute(statement, *parts):
    with psycopg.connect(os.environ["ADMIN_URL"], autocommit=True) as database:
        return database.execute(sql.SQL(statement).format(*parts))


def set_password(user, password):
    execute("ALTER ROLE {} LOGIN PASSWORD {}", sql.Identifier(user), sql.Literal(password))


def payload(user, password):
    return json.dumps({"username": user, "password": password})


def current():
    """The user in use, and the version that says so."""
    # With the stage spelled out: moto forgets which version is current when it is asked without.
    value = store.get_secret_value(SecretId=SECRET_ID, VersionStage="AWSCURRENT")
    return json.loads(value["SecretString"])["username"], value["VersionId"]


def begin():
    password = secrets.token_urlsafe(24)
    set_password(USERS[0], password)
    try:
        store.create_secret(Name=SECRET_ID, SecretString=payload(USERS[0], password))
    except store.exceptions.ResourceExistsException:
        store.put_secret_value(SecretId=SECRET_ID, SecretString=payload(USERS[0], password))
    say(f"{SECRET_ID} holds a credential of {USERS[0]}")


def rotate():
    old, old_version = current()
    new = USERS[1] if old == USERS[0] else USERS[0]
    password = secrets.token_urlsafe(24)
    # The steps of a rotation function: create, set, test, finish.
    pending = store.put_secret_value(
        SecretId=SECRET_ID, SecretString=payload(new, password), VersionStages=["AWSPENDING"]
    )["VersionId"]
    set_password(new, password)
    say(f"{new} has a new password, AWSPENDING says so")
    store.update_secret_version_stage(
        SecretId=SECRET_ID, VersionStage="AWSCURRENT", MoveToVersionId=pending, RemoveFromVersionId=old_version
    )
    store.update_secret_version_stage(SecretId=SECRET_ID, VersionStage="AWSPENDING", RemoveFromVersionId=pending)
    say(f"AWSCURRENT is {new}")
    return old, time.time()


def is_unused(user, since):
    """Whether nothing is on this user nor will be, as of reads of the store that began after `since`."""
    try:
        with urllib.request.urlopen(METRICS, timeout=2) as answer:
            metrics = answer.read().decode()
    except OSError:
        return False
    reads = [float(at) for at in READ.findall(metrics)]
    unused = re.search(rf'^pgswivel_user_unused\{{user="{user}"\}} 1(\.0)?$', metrics, re.MULTILINE)
    return bool(reads) and min(reads) > since and unused is not None


def revoke(user, since):
    deadline = time.monotonic() + REVOKE_PATIENCE_S
    while not is_unused(user, since):
        if time.monotonic() > deadline:
            say(f"{user} is not known to be unused: it is left alone")
            return
        time.sleep(0.5)
    execute("ALTER ROLE {} NOLOGIN", sql.Identifier(user))
    ended = execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = {}", sql.Literal(user)
    ).fetchone()[0]
    say(f"nothing uses {user}, and that is true: no login any more, {ended} sessions ended")


def main():
    begin()
    while True:
        time.sleep(EVERY_S)
        revoke(*rotate())


if __name__ == "__main__":
    main()
