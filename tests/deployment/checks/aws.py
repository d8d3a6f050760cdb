"""The ECS task definition and the Terraform module, by the SDK's own model of the service."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import botocore.session
import botocore.validate
import hcl2

from . import DEPLOY, DRAIN_S, USER, must, say, tool

HERE = DEPLOY / "ecs"
MODULE = HERE / "terraform"
# Neither more nor less.
TASK_ACTIONS = {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "kms:Decrypt"}
EXECUTION_ACTIONS = {"ssm:GetParameters", "kms:Decrypt"}


# After which it says that its event loop is stuck.
ALIVE_WITHIN_S = 2


def registrable(definition):
    """As `aws ecs register-task-definition` would look at it before it sends it."""
    service = botocore.session.get_session().get_service_model("ecs")
    shape = service.operation_model("RegisterTaskDefinition").input_shape
    report = botocore.validate.ParamValidator().validate(definition, shape)
    must(not report.has_errors(), report.generate_report())


def check_sidecar(container):
    check = container["healthCheck"]
    must(check["command"] == ["CMD", "/pgswivel", "health", "--started"], "there is no shell, and no task is ended for a rotation")
    must(check["timeout"] > ALIVE_WITHIN_S, "what is stuck says so by itself")
    must(DRAIN_S < container["stopTimeout"] <= 120, "stopTimeout: more than drain, no more than ECS allows")
    must(container["essential"], "the task is replaced with its sidecar")
    must(container["readonlyRootFilesystem"], "a read-only root")
    must(container["user"] == f"{USER}:{USER}", "not as root")
    must(container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}, "no capabilities")
    must("portMappings" not in container, "the Postgres port is the task's own")
    must([secret["name"] for secret in container["secrets"]] == ["PGSWIVEL_PASSWORD"], "only the local password is injected")


def check_application(container):
    wanted = {"containerName": "pgswivel", "condition": "HEALTHY"}
    must(wanted in container["dependsOn"], "the application waits for a credential")
    environment = {entry["name"]: entry["value"] for entry in container["environment"]}
    must((environment["PGHOST"], environment["PGPORT"]) == ("127.0.0.1", "6432"), "the application asks its loopback")


def task_definition():
    definition = json.loads((HERE / "task-definition.json").read_text())
    registrable(definition)
    must(definition["networkMode"] == "awsvpc", "one loopback for both")
    containers = {container["name"]: container for container in definition["containerDefinitions"]}
    check_sidecar(containers["pgswivel"])
    check_application(containers["orders"])
    must(containers["orders"]["stopTimeout"] + DRAIN_S <= 120, "both stop within what ECS allows")


def parsed(path):
    with open(path, encoding="utf-8") as file:
        return hcl2.load(file)


def plain(text):
    """python-hcl2 leaves strings in their quotes."""
    return text.strip('"')


def statements(module, name):
    """Every action that a policy document allows, and whether each is for one resource."""
    documents = [block for data in module["data"] for kind, block in data.items() if plain(kind) == "aws_iam_policy_document"]
    document = next(body for block in documents for key, body in block.items() if plain(key) == name)
    fixed = document.get("statement", [])
    dynamic = [content for block in document.get("dynamic", []) for body in block.values() for content in body["content"]]
    for statement in fixed + dynamic:
        resources = [plain(str(resource)) for resource in statement["resources"]]
        yield {plain(action) for action in statement["actions"]}, resources


def terraform_text():
    """All of it parses, and says what matters; for machines without terraform."""
    for path in MODULE.rglob("*.tf"):
        parsed(path)
    module = parsed(MODULE / "main.tf")
    for name, allowed in (("task", TASK_ACTIONS), ("execution", EXECUTION_ACTIONS)):
        found = list(statements(module, name))
        actions = set().union(*(actions for actions, _ in found))
        must(actions == allowed, f"the {name} role may do {sorted(actions)}")
        must(not any("*" in resource for _, resources in found for resource in resources), f"the {name} role: one resource each")
    example = (MODULE / "example/main.tf").read_text()
    must("manage_master_user_password = true" in example, "RDS rotates the password")
    versions = (MODULE / "sidecar/main.tf").read_text()
    must("required_providers" not in versions, "the sidecar's module needs no provider, so that it can be tried anywhere")


def planned(directory):
    """What terraform itself makes of the module without a provider."""
    terraform = tool("terraform")
    home = directory / "sidecar"
    shutil.copytree(MODULE / "sidecar", home)
    variables = {
        "image": "pgswivel:0.1.0", "upstream": "postgres://db.internal:5432/orders", "database": "orders", "log_group": "/ecs/orders",
        "region": "eu-west-1", "secret_arn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:orders-AbCdEf",
        "local_password_arn": "arn:aws:ssm:eu-west-1:111122223333:parameter/orders/local",
    }
    arguments = [f"-var={name}={value}" for name, value in variables.items()]
    run = {"cwd": home, "env": {"PATH": "/usr/bin:/bin", "HOME": str(directory), "CHECKPOINT_DISABLE": "1"}}
    say(terraform, "init", "-no-color", **run)
    say(terraform, "validate", "-no-color", **run)
    say(terraform, "apply", "-no-color", "-auto-approve", *arguments, **run)
    refused = subprocess.run([terraform, "apply", "-no-color", "-auto-approve", *arguments, "-var=stop_timeout=20"], capture_output=True, text=True, check=False, **run)
    must(refused.returncode != 0 and "drain" in refused.stderr, "a stop_timeout below drain is refused")
    return [json.loads(say(terraform, "output", "-json", name, **run)) for name in ("container", "application")]


def terraform():
    """Formatted as terraform does, and the container definitions that it makes are what ECS takes."""
    say(tool("terraform"), "fmt", "-check", "-recursive", "-diff", MODULE)
    with tempfile.TemporaryDirectory(prefix="deployment-") as directory:
        container, application = planned(Path(directory))
    check_sidecar(container)
    application = {"name": "orders", "image": "orders:1.0.0", **application}
    check_application(application)
    registrable({"family": "orders", "containerDefinitions": [container, application]})


def configurations():
    definition = json.loads((HERE / "task-definition.json").read_text())
    container = next(one for one in definition["containerDefinitions"] if one["name"] == "pgswivel")
    environment = {entry["name"]: entry["value"] for entry in container["environment"]}
    yield "ecs/task-definition.json", {**environment, "PGSWIVEL_PASSWORD": "from-a-secret"}
