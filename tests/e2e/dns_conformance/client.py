"""Clients, what they ask, and what holds for each answer.

Scripts that use this are called with ADDRESS PORT FACTS: where the server is, and a JSON object of what else is to be
known.
"""

import contextlib
import json
import socket
import struct
import sys

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

ADDRESS, PORT, FACTS = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])

TIMEOUT = 20
TTL = 5

WEB_A = ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
WEB_AAAA = ["2001:db8::1"]
MANY_A = [f"10.2.0.{last}" for last in range(1, 101)]

# Parts of raw packets: a header that announces one question, a name, and type and class of a question.
ID = 0x4D2
HEADER = struct.pack("!6H", ID, 0x0100, 1, 0, 0, 0)
WEB = b"\x03web\x05alice\x03svc\x00"
IN_A = struct.pack("!2H", dns.rdatatype.A, dns.rdataclass.IN)
OPT = b"\x00" + struct.pack("!HHIH", dns.rdatatype.OPT, 1232, 0, 0)

CASES = []


def case(sentence, over=("UDP", "TCP")):
    """A check of its own, which is given a client of each transport."""

    def add(check):
        CASES.append((sentence, over, check))
        return check

    return add


class Udp:
    def __init__(self, address=ADDRESS, port=PORT):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((address, port))

    def send(self, wire):
        self.socket.send(wire)

    def receive(self):
        return self.socket.recv(65535)


class Tcp:
    def __init__(self, address=ADDRESS, port=PORT):
        self.socket = socket.create_connection((address, port), TIMEOUT)

    def send(self, wire):
        self.socket.sendall(framed(wire))

    def receive(self):
        (length,) = struct.unpack("!H", self.exactly(2))
        return self.exactly(length)

    def exactly(self, length):
        got = b""
        while len(got) < length:
            more = self.socket.recv(length - len(got))
            check(more, "the server closed the connection")
            got += more
        return got


def framed(wire):
    return struct.pack("!H", len(wire)) + wire


def query(name, kind="A", payload=1232, **options):
    """With EDNS(0), unless `payload` is None."""
    edns = {"use_edns": False} if payload is None else {"use_edns": 0, "payload": payload}
    return dns.message.make_query(name, kind, **(edns | options))


def ask(client, asked, rcode="NOERROR", authoritative=True, truncated=False):
    """Sends a query, and checks all that holds for each answer."""
    wire = asked.to_wire()
    client.send(wire)
    answered = client.receive()
    response = dns.message.from_wire(answered)
    check(response.id == asked.id, f"the id is {response.id}, not {asked.id}")
    equal("rcode", dns.rcode.to_text(response.rcode()), rcode)
    equal("opcode", response.opcode(), asked.opcode())
    for flag, expected in [
        ("QR", True),
        ("AA", authoritative),
        ("TC", truncated),
        ("RD", bool(asked.flags & dns.flags.RD)),
        ("RA", True),
        ("AD", False),
    ]:
        equal(f"flag {flag}", bool(response.flags & dns.flags.from_text(flag)), expected)
    equal("the reserved bit of the header", response.flags & 0x40, 0)
    same = wire[12 : len(question_of(wire)) + 12]
    equal("the question", answered[12 : 12 + len(same)], same)
    equal("EDNS version", response.edns, min(asked.edns, 0))
    if isinstance(client, Udp):
        limit = max(asked.payload, 512)
        check(len(answered) <= limit, f"{len(answered)} bytes for a client that takes {limit}")
    return response


def question_of(wire):
    """The bytes of the questions of a message without compression."""
    end = 12
    for _ in range(struct.unpack_from("!H", wire, 4)[0]):
        while wire[end]:
            end += 1 + wire[end]
        end += 5
    return wire[12:end]


def addresses(response, name, kind, expected):
    """The answer is one set of those addresses, whose owner is spelt like the question."""
    equal("sets in the answer", [(str(rrset.name), rrset.rdtype.name) for rrset in response.answer], [(name, kind)])
    (rrset,) = response.answer
    equal("TTL", rrset.ttl, TTL)
    equal("addresses", sorted(map(str, rrset)), sorted(expected))
    equal("records in the answer", len(rrset), len(expected))
    equal("sets in the authority section", len(response.authority), 0)


def negative(response):
    """No answer, and the SOA of RFC 2308."""
    equal("sets in the answer", response.answer, [])
    found = [(str(rrset.name), rrset.rdtype.name) for rrset in response.authority]
    equal("the authority section", found, [("svc.", "SOA")])
    (soa,) = response.authority
    equal("TTL of the SOA", soa.ttl, TTL)
    equal("MINIMUM of the SOA", soa[0].minimum, TTL)


def bare(response):
    equal("records", [str(rrset) for rrset in response.answer + response.authority + response.additional], [])


def raw(client, wire):
    """The answer to some bytes, read no further than its header and its code."""
    client.send(wire)
    answered = client.receive()
    check(len(answered) >= 12, f"{answered.hex()} is no message")
    number, flags = struct.unpack_from("!2H", answered)
    check(flags & dns.flags.QR, f"{answered.hex()} is no response")
    return number, dns.rcode.to_text(flags & 0xF), answered


def malformed(client, wire):
    """Is answered with FORMERR, and the server lives on. The connection need not."""
    number, rcode, _ = raw(type(client)(), wire)
    equal("id", number, struct.unpack_from("!H", wire)[0])
    equal(f"rcode for {wire.hex()}", rcode, "FORMERR")
    lives(client)


def unanswered(client, wire):
    """Gets no answer: the next one belongs to the next query. Over TCP, the connection ends without one."""
    client = type(client)()
    client.send(wire)
    if isinstance(client, Tcp):
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            check(client.socket.recv(1) == b"", "there is an answer")
        lives(client)
        return
    # One that takes the long way through the server, and is not overtaken by an answer to what came before it.
    option = dns.edns.GenericOption(65001, b"x")
    for _ in range(3):
        ask(client, query("web.alice.svc.", options=[option]))


def lives(client):
    addresses(ask(type(client)(), query("web.alice.svc.")), "web.alice.svc.", "A", WEB_A)


def equal(what, found, expected):
    check(found == expected, f"{what}: {found!r}, not {expected!r}")


def check(holds, message):
    if not holds:
        raise AssertionError(message)


def with_additional(count, records):
    header = struct.pack("!6H", ID, 0x0100, 1, 0, 0, count)
    return header + WEB + IN_A + records
