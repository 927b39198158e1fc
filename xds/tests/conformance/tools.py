"""Asks a gRPC server what a tool like grpcurl asks: nothing of the services is known here but their names.

tools.py descriptors FILE   writes the descriptors of Envoy's API, which the server is to reflect, as a FileDescriptorSet
tools.py ask ADDRESS        prints as JSON: the services, the server's health, and the status of its clients
"""

import json
import sys


def write_descriptors(path):
    from envoy.service.discovery.v3 import ads_pb2
    from envoy.service.status.v3 import csds_pb2
    from google.protobuf import descriptor_pb2

    files = {}

    def add(file):
        if file.name not in files:
            for dependency in file.dependencies:
                add(dependency)
            files[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)

    for module in [ads_pb2, csds_pb2]:
        add(module.DESCRIPTOR)
    with open(path, "wb") as file:
        file.write(descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString())


def ask(address):
    import grpc
    from google.protobuf import json_format, message_factory
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    channel = grpc.insecure_channel(address)
    reflected = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(reflected)

    def call(service, name):
        method = pool.FindServiceByName(service).FindMethodByName(name)
        request, response = [message_factory.GetMessageClass(it) for it in (method.input_type, method.output_type)]
        stub = channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return json_format.MessageToDict(stub(request()))

    return {
        "services": list(reflected.get_services()),
        "health": call("grpc.health.v1.Health", "Check"),
        "clients": call("envoy.service.status.v3.ClientStatusDiscoveryService", "FetchClientStatus"),
    }


match sys.argv[1:]:
    case ["descriptors", path]:
        write_descriptors(path)
    case ["ask", address]:
        print(json.dumps(ask(address)))
