"""A gRPC server with the health service of grpcio-health-checking, told by lines on its standard input.

Argument: {"certificate": FILE, "key": FILE, "authority": FILE}, all or none. Prints its port, then `done` for each line
`SERVICE STATUS`.
"""

import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

settings = json.loads(sys.argv[1])
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
servicer = health.HealthServicer()
if settings.get("health", True):
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
if "certificate" in settings:
    pair = (Path(settings["key"]).read_bytes(), Path(settings["certificate"]).read_bytes())
    authority = Path(settings["authority"]).read_bytes() if "authority" in settings else None
    credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
for line in sys.stdin:
    service, status = line.rstrip("\n").split(" ")
    servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    print("done", flush=True)
server.stop(None)
