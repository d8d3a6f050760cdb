"""What tests/deployment/run checks, one file a theme. A check raises `Wrong`, or `Unavailable` with what it would take."""

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy"
# As in the Dockerfile.
USER = 65532
ADMIN_PORT = 9632
# What SIGTERM waits for unless a configuration says otherwise, in seconds.
DRAIN_S = 25


class Wrong(Exception):
    """What is deployed is not what it should be."""


class Unavailable(Exception):
    """A tool that comes from no package registry is not installed."""


def cache():
    default = "/var/cache/pgswivel" if os.geteuid() == 0 else Path.home() / ".cache/pgswivel"
    return Path(os.environ.get("PGSWIVEL_CACHE") or default)


def tool(name, *homes):
    """Where a program is: in one of ours, or installed."""
    for home in homes:
        if (home / name).exists():
            return str(home / name)
    found = shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not installed")
    return found


def python_tool(name):
    return tool(name, cache() / "deployment/python/bin")


def say(program, *arguments, **options):
    """Runs a program to its end and returns what it printed; when it fails, something is wrong."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **options}
    ran = subprocess.run([program, *map(str, arguments)], check=False, **options)
    if ran.returncode:
        raise Wrong(f"{Path(program).name} {' '.join(map(str, arguments))}\n{ran.stdout}{ran.stderr or ''}")
    return ran.stdout


def must(holds, what):
    if not holds:
        raise Wrong(what)
