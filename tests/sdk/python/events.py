"""Follows a flag through changes, the death of its sidecar and the next one, as an app would: by events alone."""

import os
import queue

from openfeature import api
from openfeature.event import ProviderEvent
from providers import SETTINGS, connect, step

FLAG = "search"
PATIENCE = 60
EVENTS = queue.Queue()


def listen():
    for event in ProviderEvent:
        api.add_handler(event, lambda details, event=event: EVENTS.put((event.name, details)))


def await_event(name, matches=lambda details: True):
    """The next event of this name that matches; others that come before it are told."""
    while True:
        try:
            seen, details = EVENTS.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no {name} within {PATIENCE} s") from None
        print("event", seen, details.flags_changed, details.message, flush=True)
        if seen == f"PROVIDER_{name}" and matches(details):
            return details


def changed(details):
    return FLAG in (details.flags_changed or [])


def expect(client, value, *reasons):
    details = client.get_boolean_details(FLAG, not value)
    reason = str(details.reason)
    assert details.value is value and reason in reasons, f"{details} instead of {value}, {reasons}"


def await_value(client, value):
    """Waits for the change that brings this value: one that was told before it may be another's."""
    while True:
        await_event("CONFIGURATION_CHANGED", changed)
        if client.get_boolean_value(FLAG, not value) is value:
            return


def main():
    listen()
    client = connect()
    cached = "CACHED" if SETTINGS["provider"] == "rpc" else "STATIC"
    expect(client, False, "STATIC")
    expect(client, False, cached)

    step("following")
    await_value(client, True)
    expect(client, True, cached)

    step("changed")
    await_event("STALE")
    # An in-process provider goes on by itself, and so does one that has the value in its cache.
    expect(client, True, cached)

    step("alone")
    await_event("READY")
    # It was changed meanwhile.
    if client.get_boolean_value(FLAG, True):
        await_value(client, False)
    expect(client, False, "STATIC", cached)

    step("back")
    await_value(client, True)

    step("draining")
    await_event("STALE")
    step("left")
    await_event("READY")
    if not client.get_boolean_value(FLAG, False):
        await_value(client, True)
    print("= true", flush=True)
    os._exit(0)


main()
