"""Streams both ways that would go on for ever, and the status with which each of them ends."""

import json
import sys
import threading
import time

import grpc

SETTINGS = json.loads(sys.argv[1])
BEGUN = threading.Semaphore(0)


def messages():
    number = 0
    while True:
        yield str(number).encode()
        number += 1
        time.sleep(0.02)


def talk(channel, ended):
    answers = channel.stream_stream("/test.Echo/Both")(messages())
    try:
        for expected, answer in enumerate(answers):
            assert answer == str(expected).encode(), answer
            if expected == 3:
                BEGUN.release()
        ended.append("OK")
    except grpc.RpcError as error:
        ended.append(error.code().name)


def main():
    ended = []
    channel = grpc.insecure_channel(SETTINGS["address"], options=[("grpc.enable_http_proxy", 0)])
    talks = [threading.Thread(target=talk, args=(channel, ended)) for _ in range(SETTINGS["streams"])]
    for each in talks:
        each.start()
    for _ in talks:
        BEGUN.acquire()
    print("@ begun", flush=True)
    for each in talks:
        each.join()
    print("=", json.dumps(ended), flush=True)


main()
