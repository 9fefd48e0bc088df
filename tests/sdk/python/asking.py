"""Asks for a flag again and again, through changes and the death of its sidecar: no answer may be wrong or raise."""

import os
import time

from providers import connect, step

FLAG = "search"
PATIENCE = 60


def until(client, value, variant, error):
    """Asks until the answer is this one; those before it are right too, or say that there is none."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        details = client.get_boolean_details(FLAG, True)
        seen = (details.value, details.variant, details.error_code.value if details.error_code else None)
        if seen == (value, variant, error):
            return
        assert seen in [(True, "yes", None), (False, "no", None), (True, None, "GENERAL")], details
    raise AssertionError(f"not {value}, {variant}, {error} within {PATIENCE} s, but {details}")


def main():
    client = connect()
    until(client, False, "no", None)
    step("asking")
    until(client, True, "yes", None)
    step("changed")
    # The default of the app.
    until(client, True, None, "GENERAL")
    step("alone")
    until(client, False, "no", None)
    step("back")
    until(client, True, None, "GENERAL")
    print("= true", flush=True)
    os._exit(0)


main()
