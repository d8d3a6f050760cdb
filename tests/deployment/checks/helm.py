"""The Helm charts, rendered by Helm itself. Where there is no `helm`, its library installs the chart into a cluster that
takes everything: a few answers of the API server are all that Helm asks for."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from . import DEPLOY, Wrong, kubernetes, must, pods

HERE = DEPLOY / "helm"
RESOURCES = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]}]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["create", "get"]},
        {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["create", "get"]},
    ]},
    "/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [
        {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["create", "get"]},
    ]},
    "/version": {"major": "1", "minor": "29", "gitVersion": "v1.29.0"},
}
CONFIG = """[role.app]
upstream = "orders"
secret = "orders"

[upstream.orders]
hosts = ["db.internal:5432"]

[secret.orders]
store = "file"
id = "/run/secrets/orders/"
"""


class Cluster(BaseHTTPRequestHandler):
    """An API server that has nothing and takes everything."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in RESOURCES:
            self.answer(200, RESOURCES[path])
        elif path.endswith("/secrets"):
            self.answer(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        # Helm's own record of a release comes as protobuf, and nothing of the answer is looked at.
        is_json = self.headers["Content-Type"] == "application/json"
        self.answer(201, json.loads(sent) if is_json else {"kind": "Secret", "apiVersion": "v1"})

    do_PUT = do_POST


def library(directory, values, server):
    """Renders with Helm's library."""
    import helm_sdkpy

    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
    }
    configuration = helm_sdkpy.Configuration(kubeconfig=yaml.safe_dump(kubeconfig))
    install = helm_sdkpy.Install(configuration).run("shop", str(directory), values=values, wait=False)
    try:
        return asyncio.run(install)["manifest"]
    except helm_sdkpy.HelmError as error:
        raise Wrong(str(error)) from error


def program(helm, directory, values):
    file = directory.parent / "values.json"
    file.write_text(json.dumps(values))
    ran = subprocess.run([helm, "template", "shop", directory, "--values", file], text=True, capture_output=True, check=False)
    if ran.returncode:
        raise Wrong(ran.stderr)
    return ran.stdout


class Chart:
    """The example chart with its dependency in place, as `helm dependency update` leaves it."""

    def __enter__(self):
        self.home = Path(tempfile.mkdtemp(prefix="deployment-"))
        self.directory = self.home / "example"
        shutil.copytree(HERE / "example", self.directory)
        shutil.copytree(HERE / "pgswivel", self.directory / "charts/pgswivel")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.home)

    def render(self, values):
        helm = shutil.which("helm")
        return program(helm, self.directory, values) if helm else library(self.directory, values, self.server)


def rendered():
    """(name, manifests) of the example: by flags, and by a file."""
    with Chart() as chart:
        yield "helm/example", kubernetes.manifests_of(chart.render({}))
        by_file = {"pgswivel": {"config": CONFIG, "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}]}}
        yield "helm/example with a file", kubernetes.manifests_of(chart.render(by_file))


def charts():
    """Both ways to configure it render into valid manifests; what is missing is said by name."""
    for name, manifests in rendered():
        kubernetes.valid(yaml.safe_dump_all(manifests), name)
        must(pods.check(manifests) == 1, f"{name}: one sidecar")
        maps = [manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "ConfigMap"]
        must(maps == (["shop-pgswivel"] if "file" in name else []), f"{name}: ConfigMaps {maps}")
        deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
        url = pods.environment(pods.template(deployment)["containers"][0])["DATABASE_URL"]
        must(url == "postgres://app:$(LOCAL_PASSWORD)@127.0.0.1:6432/orders?sslmode=disable", f"{name}: {url}")
    with Chart() as chart:
        for key in ("upstream", "secret"):
            try:
                chart.render({"pgswivel": {key: ""}})
            except Wrong as wrong:
                must(f"pgswivel.{key} is required" in str(wrong), str(wrong))
            else:
                raise Wrong(f"it renders without {key}")
