"""Calls of every kind through a sidecar, and what becomes of each."""

import concurrent.futures
import json
import sys
import threading
import time

import grpc

SETTINGS = json.loads(sys.argv[1])


def say(name):
    """Says how far the script is, and goes on."""
    print(f"@ {name}", flush=True)


def connect(**options):
    every = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_http_proxy": 0,
        **options,
    }
    return grpc.insecure_channel(SETTINGS["address"], options=list(every.items()))


def call(channel, name, kind="unary_unary"):
    return getattr(channel, kind)(f"/test.Echo/{name}")


def status(of):
    """The status that a call ends with."""
    try:
        of()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def kinds():
    """All four kinds, metadata, trailers, deadlines, large messages, many at once."""
    channel = connect()
    answer, done = call(channel, "Unary").with_call(b"hello", metadata=(("asked", "yes"),), timeout=30)
    assert answer == b"hello"
    assert dict(done.initial_metadata())["seen"] == "yes", done.initial_metadata()
    assert dict(done.initial_metadata())["data-bin"] == b"\x00\xff"
    trailing = dict(done.trailing_metadata())
    assert trailing["length"] == "5" and 0 < float(trailing["deadline"]) <= 30, trailing

    large = bytes(20_000_000)
    assert call(channel, "Unary")(large, timeout=60) == large

    try:
        call(channel, "Failing")(b"", timeout=30)
        raise AssertionError("an answer")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not like this: \u00e9", error
        assert dict(error.trailing_metadata())["reason"] == "on purpose"

    assert [int(part) for part in call(channel, "Down", "unary_stream")(b"1000", timeout=60)] == list(range(1000))
    assert call(channel, "Up", "stream_unary")((b"x" * size for size in range(500)), timeout=60) == b"124750"

    # Each message goes out after the one before has come back: nothing is held back on the way.
    asked = concurrent.futures.ThreadPoolExecutor().submit
    waiting = threading.Semaphore(1)

    def messages():
        for index in range(50):
            assert waiting.acquire(timeout=30)
            yield b"%d" % index

    for index, answer in enumerate(call(channel, "Both", "stream_stream")(messages(), timeout=60)):
        assert answer == b"%d" % index
        waiting.release()
    assert index == 49

    many = [asked(call(channel, "Unary"), b"%d" % index, timeout=60) for index in range(300)]
    assert [int(one.result()) for one in many] == list(range(300))

    late = status(lambda: call(channel, "Unary")(b"", metadata=(("sleep", "5"),), timeout=0.5))
    assert late == grpc.StatusCode.DEADLINE_EXCEEDED, late
    assert status(lambda: call(channel, "Nothing")(b"", timeout=30)) == grpc.StatusCode.UNIMPLEMENTED

    stream = call(channel, "Endless", "unary_stream")(b"", timeout=60)
    assert next(stream) == b"begun"
    stream.cancel()
    assert status(lambda: next(stream)) == grpc.StatusCode.CANCELLED


def conversation():
    """Calls whose client is silent for longer than any part of a request's body may take."""
    channel = connect()

    def slowly():
        for index in range(3):
            time.sleep(float(SETTINGS["sleep"]))
            yield b"%d" % index

    answers = call(channel, "Both", "stream_stream")(slowly(), timeout=60)
    assert [int(answer) for answer in answers] == [0, 1, 2]
    # No head of the answer comes before the end of the request.
    assert call(channel, "Up", "stream_unary")(slowly(), timeout=60) == b"3"


def states():
    """The status of one call, each time that it is told to make one."""
    channel = connect()
    while sys.stdin.readline() != "":
        say(status(lambda: call(channel, "Unary")(b"", metadata=(("sleep", SETTINGS["sleep"]),), timeout=30)).name)


def stream():
    """A stream that its other end breaks off, and how."""
    channel = connect()
    answers = call(channel, "Endless", "unary_stream")(b"", timeout=60)
    assert next(answers) == b"begun"
    say("streaming")
    began = time.monotonic()
    ended = status(lambda: next(answers))
    assert time.monotonic() - began < 30
    say(f"ended {ended.name}")


{"kinds": kinds, "conversation": conversation, "states": states, "stream": stream}[SETTINGS["case"]]()
print("= true", flush=True)
