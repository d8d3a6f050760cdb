"""What has to hold for every pod that has a pgswivel in it, however its manifest came about."""

import tomllib

from . import ADMIN_PORT, DRAIN_S, must

# After which it says that its event loop is stuck.
ALIVE_WITHIN_S = 2
ADMIN_PATHS = {"startupProbe": {"/startupz", "/readyz"}, "readinessProbe": {"/readyz"}, "livenessProbe": {"/livez"}}


def template(manifest):
    """The pod of a Deployment or a Job."""
    if manifest["kind"] in ("Deployment", "Job", "StatefulSet"):
        return manifest["spec"]["template"]["spec"]
    return None


def sidecars(manifests):
    """(where, manifest, pod, container, whether it is a native sidecar) of each pgswivel."""
    for manifest in manifests:
        pod = template(manifest)
        if pod is None:
            continue
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        for key in ("initContainers", "containers"):
            for container in pod.get(key, []):
                if container["name"] == "pgswivel":
                    yield where, manifest, pod, container, key == "initContainers"


def environment(container):
    """Literal values; what comes from a Secret has one that is made up."""
    return {entry["name"]: entry.get("value", "from-a-secret") for entry in container.get("env", [])}


def config_files(manifests, pod, container):
    """What its volumes of ConfigMaps hold, by the path in the container."""
    maps = {manifest["metadata"]["name"]: manifest.get("data", {}) for manifest in manifests if manifest["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod.get("volumes", [])}
    files = {}
    for mount in container.get("volumeMounts", []):
        for name, content in maps.get(volumes.get(mount["name"]), {}).items():
            files[f"{mount['mountPath'].rstrip('/')}/{name}"] = content
    return files


def check(manifests):
    """Returns how many pgswivels there are."""
    count = 0
    for where, manifest, pod, container, is_native in sidecars(manifests):
        count += 1
        check_one(where, manifest, pod, container, is_native, config_files(manifests, pod, container))
    return count


def check_one(where, manifest, pod, container, is_native, files):
    is_job = manifest["kind"] == "Job"
    if is_native:
        must(container.get("restartPolicy") == "Always", f"{where}: without restartPolicy Always it is no sidecar, and the pod never starts")
        must("startupProbe" in container, f"{where}: without a startupProbe the application races it")
    check_probes(where, container, is_native or not is_job)
    check_rights(where, pod, container)
    limits = container["resources"]["limits"]
    must("memory" in limits and "cpu" not in limits, f"{where}: a limit of memory, and none of CPU")
    mounts = container.get("volumeMounts", [])
    must(not any("subPath" in mount for mount in mounts), f"{where}: a subPath is never updated")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    must(all(mount["name"] in volumes for mount in mounts), f"{where}: every mount has a volume")
    configs = [tomllib.loads(text) for path, text in files.items() if path.endswith(".toml")]
    admin = environment(container).get("PGSWIVEL_ADMIN") or next((c["admin"]["address"] for c in configs if "admin" in c), "")
    if any(kind in container for kind in ADMIN_PATHS):
        must(admin == f"0.0.0.0:{ADMIN_PORT}", f"{where}: a kubelet probes the pod's address, not 127.0.0.1")
    drain = max([DRAIN_S, *(int(c["drain"].removesuffix("s")) for c in configs if "drain" in c)])
    if not is_job:
        must(pod["terminationGracePeriodSeconds"] > drain, f"{where}: the pod is killed before pgswivel has drained")


def check_probes(where, container, are_wanted):
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for kind, paths in ADMIN_PATHS.items():
        probe = container.get(kind)
        if probe is None:
            # A Job is served by nobody, and its sidecar lives as long as it does.
            must(not are_wanted or kind != "startupProbe", f"{where}: no {kind}")
            continue
        asked = probe["httpGet"]
        must(asked["path"] in paths, f"{where}: {kind} asks for {asked['path']}")
        must(ports.get(asked["port"]) == ADMIN_PORT, f"{where}: {kind} asks at port {asked['port']}")
        if kind != "startupProbe":
            must(probe["failureThreshold"] >= 3, f"{where}: one lost answer is no {kind}")
        if kind == "livenessProbe":
            must(probe["timeoutSeconds"] > ALIVE_WITHIN_S, f"{where}: what is stuck says so by itself")
    must(6432 not in ports.values(), f"{where}: the Postgres port is the pod's own")


def check_rights(where, pod, container):
    rights = container["securityContext"]
    everyone = pod.get("securityContext", {})
    must(rights["readOnlyRootFilesystem"] is True, f"{where}: a read-only root")
    must(rights["allowPrivilegeEscalation"] is False, f"{where}: no privilege escalation")
    must(rights["capabilities"] == {"drop": ["ALL"]}, f"{where}: no capabilities")
    must(rights.get("runAsNonRoot") or everyone.get("runAsNonRoot"), f"{where}: not as root")
    must((rights.get("seccompProfile") or everyone.get("seccompProfile", {})).get("type") == "RuntimeDefault", f"{where}: seccomp")
