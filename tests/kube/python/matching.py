"""Which webhooks of a configuration the API server asks about a pod: its selectors, and the expressions by a CEL engine.

matching.py CONFIGURATION CASES, both JSON; a case has `namespace` (name), `namespace_labels`, `labels` and `annotations`. Prints a list of
names for each case.
"""

import json
import sys

import celpy
from celpy.adapter import json_to_cel


def selected(selector, labels):
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors"""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        value = labels.get(rule["key"])
        holds = {
            "In": lambda: value is not None and value in rule["values"],
            # A label that is not there is in no set.
            "NotIn": lambda: value is None or value not in rule["values"],
            "Exists": lambda: value is not None,
            "DoesNotExist": lambda: value is None,
        }[rule["operator"]]
        if not holds():
            return False
    return True


def holds(expression, pod):
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    found = program.evaluate({"object": json_to_cel(pod)})
    if not isinstance(found, celpy.celtypes.BoolType):
        raise TypeError(f"{expression}: {found!r} is not a bool")
    return bool(found)


def asked(configuration, case):
    # The API server puts this label on every namespace.
    namespace = {"kubernetes.io/metadata.name": case["namespace"], **case.get("namespace_labels", {})}
    metadata = {"name": "pod"}
    # Left out and not empty, as the API server has them.
    for field in ("labels", "annotations"):
        if case.get(field):
            metadata[field] = case[field]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}
    for hook in configuration["webhooks"]:
        if (
            selected(hook.get("namespaceSelector", {}), namespace)
            and selected(hook.get("objectSelector", {}), case.get("labels", {}))
            and all(holds(condition["expression"], pod) for condition in hook.get("matchConditions", []))
        ):
            yield hook["name"]


configuration, cases = map(json.loads, sys.argv[1:])
json.dump([list(asked(configuration, case)) for case in cases], sys.stdout)
