"""Calls `xds:///echo.test` when it is asked to over HTTP, with gRPC's own xDS client.

Two gRPC servers of this process, blue and green, answer each call with their name.

GET /upstreams  their ports, by name
GET /call       what a call over the channel brings: the name, or 503 with the reason
GET /csds       type, name and status of each resource, as gRPC's client status discovery service tells them
"""

import json
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import grpc_csds
from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

METHOD = "/conformance.Echo/Name"


def serve(name=None):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    if name is None:
        grpc_csds.add_csds_servicer(server)
    else:
        handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: name.encode())
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("conformance.Echo", {"Name": handler})]
        )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


servers = {name: serve(name) for name in ["blue", "green"]}
csds_server, csds_port = serve()
csds = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(grpc.insecure_channel(f"127.0.0.1:{csds_port}"))
name = grpc.insecure_channel("xds:///echo.test").unary_unary(METHOD)


def upstreams():
    return json.dumps({name: port for name, (_, port) in servers.items()})


def call():
    return name(b"", timeout=20, wait_for_ready=False).decode() + "\n"


def statuses():
    response = csds.FetchClientStatus(csds_pb2.ClientStatusRequest())
    return json.dumps([
        (resource.type_url, resource.name, ClientResourceStatus.Name(resource.client_status))
        for resource in response.config[0].generic_xds_configs
    ])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, body = 200, {"/upstreams": upstreams, "/call": call, "/csds": statuses}[self.path]()
        except grpc.RpcError as error:
            status, body = 503, f"{error.code()}: {error.details()}"
        self.send_response(status)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


host, _, port = sys.argv[1].rpartition(":")
ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
