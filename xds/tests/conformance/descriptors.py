"""Writes the descriptors of Envoy's API, which a server is to reflect, into a file as a FileDescriptorSet."""

import sys

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
with open(sys.argv[1], "wb") as out:
    out.write(descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString())
