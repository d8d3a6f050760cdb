"""Plain manifests and kustomize."""

import json
import re
import subprocess

import kubernetes_validate
import yaml

from . import DEPLOY, Unavailable, Wrong, must, pods, say, tool

HERE = DEPLOY / "kubernetes"
# The first with native sidecars on by default, and the newest whose schemas are bundled.
VERSIONS = ("1.29.0", "1.37.0")
OVERLAY = HERE / "kustomize/overlays/production"


def manifests_of(text):
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def valid(text, what):
    """Against the schemas of the API server, where what is unknown is wrong."""
    for manifest in manifests_of(text):
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                raise Wrong(f"{what}, Kubernetes {version}, {manifest['kind']}: {error}") from error


def files():
    return sorted(HERE.glob("*.yaml"))


def manifests():
    """Every manifest is valid, and every pgswivel in it is run as it should be."""
    for path in files():
        text = path.read_text()
        valid(text, path.name)
        must(pods.check(manifests_of(text)) == 1, f"{path.name}: one pgswivel")
    quits = (HERE / "job-classic.yaml").read_text()
    must("http://127.0.0.1:9632/quit" in quits, "a Job with a classic sidecar ends only if it is told to")


def kustomized():
    """What kustomize makes of the overlay; None where there is no kustomize that knows components."""
    try:
        kustomize = [tool("kustomize"), "build"]
    except Unavailable:
        kubectl = tool("kubectl")
        version = subprocess.run([kubectl, "version", "--client", "--output=json"], text=True, capture_output=True, check=False).stdout
        found = re.search(r"v(\d+)", json.loads(version or "{}").get("kustomizeVersion", ""))
        if not found or int(found[1]) < 4:
            raise Unavailable("this kubectl's kustomize knows no components") from None
        kustomize = [kubectl, "kustomize"]
    return say(*kustomize, OVERLAY)


def references():
    """Every file that a kustomization names is there."""
    for path in HERE.rglob("kustomization.yaml"):
        stated = yaml.safe_load(path.read_text())
        named = [*stated.get("resources", []), *stated.get("components", [])]
        named += [patch["path"] for patch in stated.get("patches", []) if "path" in patch]
        for generator in stated.get("configMapGenerator", []) + stated.get("secretGenerator", []):
            named += generator.get("files", []) + generator.get("envs", [])
        for name in named:
            must((path.parent / name).exists(), f"{path.relative_to(DEPLOY)}: no {name}")


def kustomize():
    """The overlay renders into valid manifests with a sidecar in them."""
    references()
    text = kustomized()
    valid(text, "the overlay")
    rendered = manifests_of(text)
    must(pods.check(rendered) == 1, "the component adds one sidecar")
    names = [manifest["metadata"]["name"] for manifest in rendered if manifest["kind"] == "ConfigMap"]
    must(names == ["pgswivel"], "the ConfigMap's name has no hash, so that a change reaches running pods")


def all_manifests():
    """(name, manifests) of everything that can be rendered here."""
    for path in files():
        yield str(path.relative_to(DEPLOY)), manifests_of(path.read_text())
    try:
        yield "kubernetes/kustomize", manifests_of(kustomized())
    except Unavailable:
        sidecar = yaml.safe_load((HERE / "kustomize/pgswivel/sidecar.yaml").read_text())
        config = {"kind": "ConfigMap", "metadata": {"name": "pgswivel"}, "data": {"pgswivel.toml": (OVERLAY / "pgswivel.toml").read_text()}}
        yield "kubernetes/kustomize", [sidecar, config]


