"""The image, compose, systemd, and what watches them."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from . import DEPLOY, DRAIN_S, REPOSITORY, USER, cache, must, python_tool, say, tool

METRICS = Path(__file__).resolve().parents[1] / "metrics.txt"
PROMETHEUS = DEPLOY / "prometheus"
METRIC = re.compile(r"pgswivel_[a-z_]+")
# systemd's own score, from 0 (locked in) to 10; above 2 something was left open.
EXPOSURE_MAX = 20


def promtool():
    return tool("promtool", cache() / "deployment/prometheus/usr/bin")


def seconds(text):
    return int(str(text).removesuffix("s"))


def lint():
    """Every YAML file is well formed."""
    files = [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml"), REPOSITORY / "docker-compose.yml"]
    # Templates are YAML only once they are rendered.
    files = [path for path in files if "templates" not in path.parts]
    rules = "{extends: default, rules: {document-start: disable, comments-indentation: disable, truthy: disable, line-length: {max: 160},"
    rules += " braces: {max-spaces-inside: 1}, octal-values: disable}}"
    say(python_tool("yamllint"), "--strict", "-d", rules, *files)


def dockerfiles():
    """Both images: as hadolint wants them, as nobody, from nowhere but Docker's own registry."""
    for path in (REPOSITORY / "Dockerfile", DEPLOY / "compose/demo/Dockerfile"):
        say(python_tool("hadolint"), "--no-color", path)
        text = path.read_text()
        bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
        must(not any("." in base.split("/")[0] and "/" in base for base in bases), f"{path.name}: {bases}")
        must(re.search(rf"^USER {USER}:{USER}$", text, re.MULTILINE), f"{path}: a number, which Kubernetes can tell from root")
    image = (REPOSITORY / "Dockerfile").read_text()
    must(re.search(r"^FROM scratch$", image, re.MULTILINE), "nothing but the program")
    must('CMD ["/pgswivel", "health"]' in image, "the program checks itself")
    must("--locked" in image, "the dependencies of Cargo.lock")
    rust = re.search(r'^rust-version = "([^"]+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    must(f"FROM rust:{rust}-" in image, f"the compiler that Cargo.toml names, {rust}")
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", image, re.MULTILINE)
    admitted = (REPOSITORY / ".dockerignore").read_text()
    for name in " ".join(copied).split():
        must(f"!{name}" in admitted.splitlines(), f".dockerignore keeps {name} out")


def compose():
    """By the schema of the compose specification, with every file that it mounts, in the order that it needs."""
    path = REPOSITORY / "docker-compose.yml"
    # The schema knows nothing of merge keys, so they are merged first.
    stated = yaml.safe_load(path.read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".json") as merged:
        json.dump(stated, merged)
        merged.flush()
        say(python_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", merged.name)
    services = stated["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            must((REPOSITORY / volume.split(":")[0]).exists(), f"{name}: no {volume}")
        for port in service.get("ports", []):
            must(port.startswith("127.0.0.1:"), f"{name}: {port} is reachable from outside")
        must(":" in service["image"] or "build" in service, f"{name}: an image with its version")
    swivel = services["pgswivel"]
    must(seconds(swivel["stop_grace_period"]) > DRAIN_S, "pgswivel is killed before it has drained")
    must(swivel["read_only"] and swivel["cap_drop"] == ["ALL"], "a read-only root, and no capabilities")
    application = services["application"]
    must(application["network_mode"] == "service:pgswivel", "the Postgres port is on pgswivel's loopback")
    must(application["depends_on"]["pgswivel"] == {"condition": "service_healthy"}, "the application waits for a credential")


def systemd():
    """As systemd reads it, with its own score of what was left open."""
    analyze = tool("systemd-analyze")
    with tempfile.TemporaryDirectory(prefix="deployment-") as directory:
        for name in ("pgswivel.service", "pgswivel.socket"):
            # It wants to see the program, which is not installed here.
            text = (DEPLOY / "systemd" / name).read_text().replace("/usr/local/bin/pgswivel", shutil.which("true"))
            Path(directory, name).write_text(text)
        units = [Path(directory, name) for name in ("pgswivel.service", "pgswivel.socket")]
        # What it doesn't know it only warns of.
        told = say(analyze, "verify", "--man=no", *units, stderr=subprocess.STDOUT)
        must(not told.strip(), told)
        say(analyze, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", units[0])
    text = (DEPLOY / "systemd/pgswivel.service").read_text()
    must(seconds(re.search(r"^TimeoutStopSec=(\S+)$", text, re.MULTILINE)[1]) > DRAIN_S, "pgswivel is killed before it has drained")
    must(re.search(r"^Type=notify$", text, re.MULTILINE), "units after it find it working")


def dashboard():
    """(title, expression) of everything that the dashboard asks Prometheus."""
    stated = json.loads((PROMETHEUS / "dashboard.json").read_text())
    for panel in stated["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in stated["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def known(text, where):
    """Only metrics that pgswivel has; a histogram's parts are its own."""
    names = {line.split("{")[0] for line in METRICS.read_text().splitlines() if line and not line.startswith("#")}
    for name in METRIC.findall(text):
        plain = re.sub(r"_(bucket|sum|count)$", "", name)
        must(name in names or plain in names, f"{where}: there is no metric {name}")


def prometheus():
    """Alerts fire when they should and keep quiet when they should; the dashboard's questions can be answered."""
    say(promtool(), "check", "rules", "rules.yml", cwd=PROMETHEUS)
    say(promtool(), "test", "rules", "rules_test.yml", cwd=PROMETHEUS)
    # Debian's promtool is built without service discovery on Kubernetes, so scrape-kubernetes.yml is only linted.
    say(promtool(), "check", "config", "scrape.yml", cwd=PROMETHEUS)
    with tempfile.TemporaryDirectory(prefix="deployment-") as directory:
        shutil.copy(PROMETHEUS / "rules.yml", directory)
        shutil.copy(DEPLOY / "compose/prometheus.yml", directory)
        say(promtool(), "check", "config", "prometheus.yml", cwd=directory)
        # What the dashboard asks, as rules, since promtool parses nothing else.
        asked = [(title, expression.replace("$__rate_interval", "1m")) for title, expression in dashboard()]
        rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(asked)]
        Path(directory, "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
        say(promtool(), "check", "rules", "panels.yml", cwd=directory)
    for title, expression in asked:
        known(expression, title)
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
    tested = (PROMETHEUS / "rules_test.yml").read_text()
    for rule in rules:
        known(rule["expr"], rule["alert"])
        must(f"alertname: {rule['alert']}\n" in tested, f"nothing shows that {rule['alert']} fires")
