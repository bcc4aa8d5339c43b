"""The part of protobuf's wire format that is needed to build and read whole batches.

A field is a tag, a length and that many bytes (https://protobuf.dev/programming-guides/encoding).
Messages that are only passed on stay bytes: to make objects of them would cost more than everything
else that is done with them.
"""

from functools import lru_cache
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["field", "list_of_bytes", "varint"]


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """Return a number in protobuf's form: seven bits per byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def field(number: int, content: bytes) -> bytes:
    """Return a field with a length: bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def list_of_bytes(number: int) -> Any:
    """Return a message class that reads field `number` as `items`, a list of unparsed bytes."""
    file = FileDescriptorProto(name=f"list{number}.proto", package="darkroom", syntax="proto3")
    file.message_type.add(name="List").field.add(
        name="items",
        number=number,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type=FieldDescriptorProto.TYPE_BYTES,
    )
    pool = DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("darkroom.List"))
