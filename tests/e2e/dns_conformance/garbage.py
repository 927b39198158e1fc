"""What is no message, or one that makes no sense."""

import os
import struct

import dns.message

from client import (
    HEADER,
    ID,
    IN_A,
    OPT,
    WEB,
    WEB_A,
    addresses,
    case,
    equal,
    malformed,
    raw,
    unanswered,
    with_additional,
)


@case("What is too short for a header gets no answer.")
def _(client):
    for length in [0, 1, 2, 3, 11]:
        unanswered(client, HEADER[:length])


@case("A header alone that promises a question is malformed.")
def _(client):
    malformed(client, HEADER)


@case("A question that is cut anywhere is malformed.")
def _(client):
    whole = HEADER + WEB + IN_A
    for length in range(12, len(whole)):
        malformed(client, whole[:length])


@case("A name that points to itself, ahead, or in circles is malformed.")
def _(client):
    for name in [b"\xc0\x0c", b"\xc0\x0e", b"\xc0\xff", b"\xff\xff", b"\xc0\x0e\xc0\x0c", b"\xc0"]:
        malformed(client, HEADER + name + IN_A)
        malformed(client, HEADER + b"\x01a" + name + IN_A)


@case("A label that is longer than labels are is malformed.")
def _(client):
    for length in [64, 65, 0x80, 0xBF]:
        malformed(client, HEADER + bytes([length]) + b"x" * length + b"\x05alice\x03svc\x00" + IN_A)


@case("A name that is longer than names are is malformed.")
def _(client):
    malformed(client, HEADER + (b"\x3f" + b"x" * 63) * 4 + b"\x00" + IN_A)
    malformed(client, HEADER + (b"\x3f" + b"x" * 63) * 3 + b"\x34" + b"x" * 52 + b"\x05alice\x03svc\x00" + IN_A)
    malformed(client, HEADER + b"\x01x" * 300 + b"\x00" + IN_A)


@case("Records that are promised and do not come are malformed.")
def _(client):
    for counts in [(1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (65535, 0, 0, 0), (1, 65535, 65535, 65535)]:
        malformed(client, struct.pack("!6H", ID, 0x0100, *counts) + WEB + IN_A)


@case("Bytes behind the message change nothing.")
def _(client):
    for rest in [b"\x00", b"more", b"\xff" * 300]:
        for message in [HEADER + WEB + IN_A, with_additional(1, OPT)]:
            number, rcode, answered = raw(client, message + rest)
            equal("id", number, ID)
            equal("rcode", rcode, "NOERROR")
            addresses(dns.message.from_wire(answered), "web.alice.svc.", "A", WEB_A)


@case("Random bytes harm nobody.")
def _(client):
    for length in range(1, 200, 13):
        unanswered(client, struct.pack("!2H", ID, 0x8000) + os.urandom(length))
        # The header promises more than comes.
        malformed(client, struct.pack("!6H", ID, 0x0100, 1, 99, 99, 99) + os.urandom(length))
