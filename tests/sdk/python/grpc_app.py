"""An app of grpcio: every kind of call, with bytes for messages, so that it needs no generated code."""

import concurrent.futures
import json
import sys
import threading
import time

import grpc


def say(name):
    """Says how far the script is, and goes on."""
    print(f"@ {name}", flush=True)


def unary(request, context):
    """Echoes its message and what it was told, by metadata."""
    told = dict(context.invocation_metadata())
    time.sleep(float(told.get("sleep", "0")))
    context.send_initial_metadata((("seen", told.get("asked", "")), ("data-bin", b"\x00\xff")))
    context.set_trailing_metadata((("length", str(len(request))), ("deadline", str(context.time_remaining() or ""))))
    return request


def failing(request, context):
    context.set_trailing_metadata((("reason", "on purpose"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this: \u00e9")


def down(request, context):
    for index in range(int(request)):
        yield b"%d" % index


def up(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request


def endless(request, context):
    """Says that it has begun, and then nothing, until its client is gone."""
    gone = threading.Event()

    # Not said here below: a call that is cancelled while its message is on its way is not gone on with.
    def leave():
        gone.set()
        say("gone")

    context.add_callback(leave)
    yield b"begun"
    gone.wait()


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
}


def main():
    settings = json.loads(sys.argv[1])
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.get("streams", 1000)),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=64), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
    server.add_insecure_port(settings["address"])
    server.start()
    say("serving")
    sys.stdin.readline()
    # A line tells it to go, as SIGTERM would: those who ask are told to go elsewhere, and answered.
    server.stop(grace=10).wait()
    print("= true", flush=True)


main()
