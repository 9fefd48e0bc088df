"""Evaluates the cases of the table and says which differ from what they expect."""

import json
import os

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from providers import SETTINGS, connect

ASK = {
    "boolean": ("get_boolean_details", bool),
    "string": ("get_string_details", str),
    "integer": ("get_integer_details", int),
    "float": ("get_float_details", float),
    "object": ("get_object_details", dict),
}


def differences(client, case):
    method, kind = ASK[case["type"]]
    context = EvaluationContext(case.get("targetingKey"), case.get("context", {}))
    details = getattr(client, method)(case["flag"], case["default"], context)
    expected = case["expect"] | case.get("but", {}).get(f"python {SETTINGS['provider']}", {})
    # bool is an int to Python, and 1 equals 1.0.
    if type(details.value) is not kind:
        yield f"type of value: {type(details.value).__name__} instead of {kind.__name__}"
    error = details.error_code.value if details.error_code else None
    seen = {
        "value": details.value,
        # Nothing and an empty name are the same to those who ask.
        "variant": details.variant or None,
        "reason": str(details.reason),
        "error": error,
        "metadata": {key: details.flag_metadata.get(key) for key in expected.get("metadata", {})},
    }
    expected.setdefault("error", None)
    for name, value in expected.items():
        if seen[name] != value:
            yield f"{name}: {seen[name]!r} instead of {value!r} ({details.error_message})"


def main():
    client = connect()
    with open(SETTINGS["cases"], encoding="utf-8") as file:
        cases = json.load(file)
    wrong = [(case, list(differences(client, case))) for case in cases]
    wrong = [(case, found) for case, found in wrong if found]
    for case, found in wrong:
        print(case["type"], case["flag"], case.get("context", ""), *found, sep="\n    ")
    api.shutdown()
    print(f"= {len(cases)}", flush=True)
    # Threads of the SDK that outlive its shutdown are not what is tested.
    os._exit(1 if wrong else 0)


main()
