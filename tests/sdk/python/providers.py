"""A provider of the official Python SDK, as the settings on the command line ask for it."""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType, ResolverType
from openfeature.contrib.provider.ofrep import OFREPProvider

SETTINGS = json.loads(sys.argv[1])
# A busy machine is slower than the half second that the provider gives itself.
PATIENCE_MS = 20_000


def provider():
    kind = SETTINGS["provider"]
    host, port = SETTINGS["address"].rsplit(":", 1)
    if kind == "ofrep":
        return OFREPProvider(f"http://{host}:{port}", timeout=PATIENCE_MS / 1000)
    return FlagdProvider(
        host=host,
        port=int(port),
        resolver_type=ResolverType(kind),
        cache=CacheType(SETTINGS.get("cache", "disabled")),
        selector=SETTINGS.get("selector"),
        deadline_ms=PATIENCE_MS,
        retry_backoff_ms=100,
        retry_backoff_max_ms=200,
        retry_grace_period=SETTINGS.get("grace", 10),
    )


def connect():
    """A client of a provider that says it is ready."""
    api.set_provider_and_wait(provider())
    client = api.get_client()
    status = client.get_provider_status().value
    assert status == "READY", f"the provider is {status} after its initialisation"
    return client


def step(name):
    """Says how far the script is, and goes on when the test has done its part."""
    print(f"@ {name}", flush=True)
    assert sys.stdin.readline(), "the test is gone"
