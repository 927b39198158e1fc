"""Asks a gRPC server what a tool like grpcurl asks: nothing of the services is known here but their names.

grpc_tool.py ADDRESS [CA [CERTIFICATE KEY]]

Prints as JSON: the services, those without a description, the server's health, the status of its clients, and the bytes
of that in hexadecimal.
"""

import json
import pathlib
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def connect(address, files):
    if not files:
        # gRPC would name the path of a Unix socket as the host, which HTTP takes for nonsense.
        authority = [("grpc.default_authority", "localhost")] if address.startswith("unix:") else []
        return grpc.insecure_channel(address, authority)
    ca, *identity = [pathlib.Path(file).read_bytes() for file in files]
    certificate, key = identity or (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))


def ask(channel):
    reflected = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(reflected)

    def call(service, name):
        method = pool.FindServiceByName(service).FindMethodByName(name)
        request, response = [message_factory.GetMessageClass(it) for it in (method.input_type, method.output_type)]
        stub = channel.unary_unary(f"/{service}/{name}", request_serializer=request.SerializeToString)
        answer = stub(request())
        return answer, json_format.MessageToDict(response.FromString(answer), descriptor_pool=pool)

    def is_described(service):
        try:
            return pool.FindServiceByName(service) is not None
        except (KeyError, grpc.RpcError):
            return False

    services = list(reflected.get_services())
    _, health = call("grpc.health.v1.Health", "Check")
    encoded, clients = call("envoy.service.status.v3.ClientStatusDiscoveryService", "FetchClientStatus")
    return {
        "services": services,
        "undescribed": [service for service in services if not is_described(service)],
        "health": health,
        "clients": clients,
        "clientBytes": encoded.hex(),
    }


address, *files = sys.argv[1:]
try:
    print(json.dumps(ask(connect(address, files))))
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")
