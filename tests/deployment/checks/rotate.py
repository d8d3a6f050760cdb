"""What runs rotations by itself: by the models of where it runs, and by the least that it needs."""

import json
import re
import runpy
import shutil
import tempfile
from pathlib import Path

import botocore.session
import botocore.validate
import yaml

from . import DEPLOY, USER, Wrong, aws, kubernetes, must, pods, say, tool

HERE = DEPLOY / "rotate"
# To write the one secret, and to read the rotator's; nothing that a sidecar has to have.
WRITES = {"secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"}
READS = {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"}
KEY = {"kms:Decrypt", "kms:GenerateDataKey"}
COMMAND = re.compile(r"rotate,? (run|gate|age),? ")


def check_kubernetes():
    manifests = []
    for name in ("kubernetes.yaml", "gate.yaml"):
        text = (HERE / name).read_text()
        kubernetes.valid(text, f"rotate/{name}")
        manifests += kubernetes.manifests_of(text)
    must([manifest["kind"] for manifest in manifests] == ["CronJob", "Job"], "what rotates, and what waits")
    for manifest in manifests:
        job = manifest["spec"]["jobTemplate"] if manifest["kind"] == "CronJob" else manifest
        pod = job["spec"]["template"]["spec"]
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        (container,) = pod["containers"]
        pods.check_rights(where, pod, container)
        must(container["args"][0] == "rotate", f"{where}: it rotates")
        volumes = {volume["name"] for volume in pod["volumes"]}
        must(all(mount["name"] in volumes for mount in container["volumeMounts"]), f"{where}: every mount has a volume")
        must(pod["restartPolicy"] == "Never", f"{where}: each try is a pod of its own, with a log of its own")


def check_ecs():
    definition = json.loads((HERE / "ecs/task-definition.json").read_text())
    aws.registrable(definition)
    (container,) = definition["containerDefinitions"]
    must(container["readonlyRootFilesystem"] and container["user"] == f"{USER}:{USER}", "a read-only root, not as root")
    service = botocore.session.get_session().get_service_model("scheduler")
    shape = service.operation_model("CreateSchedule").input_shape
    report = botocore.validate.ParamValidator().validate(json.loads((HERE / "ecs/schedule.json").read_text()), shape)
    must(not report.has_errors(), report.generate_report())
    statements = json.loads((HERE / "ecs/policy.json").read_text())["Statement"]
    found = [set(statement["Action"]) for statement in statements]
    must(found == [READS | WRITES, READS, KEY], f"the rotator's role may do {found}")
    must(not any("*" in statement["Resource"] for statement in statements), "one resource each")
    must(not aws.TASK_ACTIONS & WRITES, "a sidecar's role writes nothing")


def check_systemd():
    analyze = tool("systemd-analyze")
    with tempfile.TemporaryDirectory(prefix="deployment-") as directory:
        units = []
        for name in ("pgswivel-rotate.service", "pgswivel-rotate.timer"):
            text = (HERE / name).read_text().replace("/usr/local/bin/pgswivel", shutil.which("true"))
            units.append(Path(directory, name))
            units[-1].write_text(text)
        told = say(analyze, "verify", "--man=no", *units)
        must(not told.strip(), told)
        say(analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", units[0])


def check_lambda():
    """It waits before a rotation begins, and calls the other function for each step."""
    with tempfile.TemporaryDirectory(prefix="deployment-") as directory:
        home = Path(directory)
        shutil.copy(HERE / "lambda/function.py", home)
        program = home / "pgswivel"
        module = None

        def step(name, exit_code):
            nonlocal module
            program.write_text(f"#!/bin/sh\necho \"$@\" >>{home}/asked\necho 'orders_a: somebody'\nexit {exit_code}\n")
            program.chmod(0o755)
            module = module or runpy.run_path(str(home / "function.py"))
            called = []
            environment = module["os"].environ
            environment.update(NEXT="arn:next", ROTATION="orders", WITHIN="1s")
            module["lambda_handler"]({"Step": name}, None, lambda arn, event: called.append((arn, event["Step"])) or {})
            return called

        for later in ("setSecret", "testSecret", "finishSecret"):
            must(step(later, 1) == [("arn:next", later)], "what was begun is brought to its end")
        must(not (home / "asked").exists(), "and nothing is waited for")
        must(step("createSecret", 0) == [("arn:next", "createSecret")], "nobody is left: passed on")
        asked = (home / "asked").read_text()
        must(asked.startswith("rotate gate orders --within 1s --json --config"), asked)
        for code in (1, 69):
            try:
                step("createSecret", code)
            except Exception as error:  # noqa: BLE001 its class is the function's own
                must(type(error).__name__ == "NotYet" and "somebody" in str(error), repr(error))
            else:
                raise Wrong("it went on although somebody is left")


def rotations():
    """Everything that rotates by itself is valid, may do no more than it has to, and has one configuration."""
    check_kubernetes()
    check_ecs()
    check_systemd()
    check_lambda()
    workflow = yaml.safe_load((HERE / "github.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["rotate"]["steps"] if "run" in step]
    must(sum(bool(COMMAND.search(run)) for run in runs) == 2, "the workflow looks and rotates")
