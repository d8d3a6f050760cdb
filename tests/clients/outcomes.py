"""What became of each test of a suite, from the files that it left: {test: (passed | failed | skipped, message)}."""

import json
import re
import xml.etree.ElementTree as xml


def outcomes_of(directory):
    found = {}
    for pattern, read in (("*.junit.xml", of_junit), ("*.gotest.json", of_go_test), ("*.tap", of_tap)):
        for file in sorted(directory.glob(pattern)):
            prefix = file.name.split(".")[0] + "/"
            for test, outcome in read(file):
                add(found, prefix + re.sub(r"\s+", "_", test), outcome)
    return found


def add(found, test, outcome):
    """A name that a suite gives to several tests is numbered."""
    name, number = test, 1
    while name in found:
        number += 1
        name = f"{test}#{number}"
    found[name] = outcome


def of_junit(file):
    for case in xml.parse(file).iter("testcase"):
        test = f"{case.get('classname')}.{case.get('name')}"
        failed = next((child for child in case if child.tag in ("failure", "error")), None)
        if failed is not None:
            yield test, ("failed", failed.text or failed.get("message") or "")
        elif case.find("skipped") is not None:
            yield test, ("skipped", case.find("skipped").get("message") or "")
        else:
            yield test, ("passed", "")


def of_go_test(file):
    said = {}
    words = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    for line in file.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        test = event.get("Test")
        if not test:
            continue
        name = f"{event['Package'].rsplit('/', 1)[-1]}.{test}"
        if event["Action"] == "output":
            said[name] = said.get(name, "") + event["Output"]
        elif event["Action"] in words:
            yield name, (words[event["Action"]], said.get(name, ""))


TAP_LINE = re.compile(r"^(?P<not>not )?ok\s+(?P<number>\d+)?\s*(?:- )?(?P<name>.*?)\s*(?:#\s*(?P<directive>skip|todo)\b.*)?$", re.I)


def of_tap(file):
    test = None
    said = []
    for line in file.read_text(errors="replace").splitlines():
        matched = TAP_LINE.match(line)
        if matched:
            if test:
                yield test, (kind, "\n".join(said))
            test, said = matched["name"] or matched["number"], []
            directive = (matched["directive"] or "").lower()
            kind = "skipped" if directive == "skip" else "failed" if matched["not"] and not directive else "passed"
        else:
            said.append(line)
    if test:
        yield test, (kind, "\n".join(said))
