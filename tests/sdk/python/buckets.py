"""Tells which variant each of many users gets."""

import json
import os

from openfeature.evaluation_context import EvaluationContext
from providers import SETTINGS, connect


def main():
    client = connect()
    variants = {}
    for flag in SETTINGS["flags"]:
        for number in range(SETTINGS["users"]):
            user = f"user-{number}"
            context = EvaluationContext(user, {"email": f"{user}@example.org"})
            details = client.get_string_details(flag, "none", context)
            assert details.error_code is None, details
            variants[f"{flag} {user}"] = details.variant
    print("=", json.dumps(variants), flush=True)
    os._exit(0)


main()
