"""A Secrets Manager rotation function that does not begin while somebody is on the user whose turn it is.

It stands in front of the function that rotates today, which keeps its steps. `createSecret` chooses the user that is not
current, and what follows gives it another password or closes it: whoever is still logged in as that user, since the last
rotation, is cut off. So before `createSecret`, `pgswivel rotate gate` waits until no server has a backend of it. When it
does not get there in time, the step fails, Secrets Manager tries again later, and everything still works.

Environment: NEXT, the ARN of the function that does the work; ROTATION, the name in rotate.toml, where `users` lists the
users that take turns; WITHIN, less than this function's time limit. The program and rotate.toml are in the function's
package, beside this file.
"""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of `rotate gate`: somebody is still there, and something could not be asked.
SOMEBODY_IS_LEFT, UNREACHABLE = 1, 69


class NotYet(Exception):
    """Secrets Manager tries the step again."""


def wait_until_nobody_is_on_it():
    """Raises NotYet, with the names of who is left."""
    gate = [HERE / "pgswivel", "rotate", "gate", os.environ["ROTATION"], "--within", os.environ.get("WITHIN", "10m")]
    ran = subprocess.run([*gate, "--json", "--config", HERE / "rotate.toml"], capture_output=True, text=True, check=False)
    if ran.returncode in (SOMEBODY_IS_LEFT, UNREACHABLE):
        raise NotYet(ran.stdout.strip() or ran.stderr.strip())
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip())


def lambda_handler(event, context, invoke=None):
    """`invoke` calls another function by its ARN; the default is AWS's."""
    if event["Step"] == "createSecret":
        wait_until_nobody_is_on_it()
    answer = (invoke or invoke_function)(os.environ["NEXT"], event)
    if "FunctionError" in answer:
        raise RuntimeError(f"{os.environ['NEXT']} failed at {event['Step']}")


def invoke_function(name, event):
    import boto3  # of the function's runtime

    return boto3.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
