"""Sizes, EDNS(0), cookies, connections, and queries that are not for this server."""

import socket
import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from client import (
    FACTS,
    ID,
    IN_A,
    MANY_A,
    OPT,
    Tcp,
    WEB,
    WEB_A,
    addresses,
    ask,
    bare,
    case,
    check,
    equal,
    framed,
    lives,
    malformed,
    query,
    raw,
    unanswered,
    with_additional,
)


# Sizes

@case("What is too large for a client of UDP is truncated, and whole over TCP.", ["UDP"])
def _(client):
    for payload in [None, 0, 512, 1000, 1232, 4096, 65535]:
        ask(client, query("many.alice.svc.", payload=payload), truncated=True)
        whole = ask(Tcp(), query("many.alice.svc.", payload=payload))
        addresses(whole, "many.alice.svc.", "A", MANY_A)


@case("The largest answer that fits comes whole.", ["UDP"])
def _(client):
    # 12 bytes of header, 20 of question, 16 for each address, 11 of OPT.
    for payload, fits in [(512, "fit29"), (528, "fit30")]:
        count = int(fits[3:])
        expected = [f"10.3.0.{last}" for last in range(1, count + 1)]
        name = f"{fits}.alice.svc."
        addresses(ask(client, query(name, payload=payload)), name, "A", expected)
    ask(client, query("fit30.alice.svc.", payload=512), truncated=True)


@case("Names are compressed.")
def _(client):
    asked = query("web.alice.svc.", payload=None)
    client.send(asked.to_wire())
    equal("bytes", len(client.receive()), 12 + 19 + 3 * 16)


# EDNS(0)

@case("OPT says how much the server takes, and no more than passes everywhere.")
def _(client):
    response = ask(client, query("web.alice.svc.", payload=4096))
    check(512 <= response.payload <= 1232, f"the server takes {response.payload}")


@case("The DO bit is copied, and other flags of EDNS are not.")
def _(client):
    for flags, expected in [(0, 0), (dns.flags.DO, dns.flags.DO), (0xFFFF, dns.flags.DO), (0x7FFF, 0)]:
        for name in ["web.alice.svc.", "nobody.alice.svc."]:
            code = "NOERROR" if name.startswith("web") else "NXDOMAIN"
            response = ask(client, query(name, ednsflags=flags), code)
            equal("flags of EDNS", response.ednsflags & 0xFFFF, expected)


@case("Options that nobody knows are passed over.")
def _(client):
    options = [dns.edns.GenericOption(code, data) for code, data in [(65001, b""), (4, b"x" * 100), (65534, b"\xff")]]
    response = ask(client, query("web.alice.svc.", options=options))
    addresses(response, "web.alice.svc.", "A", WEB_A)
    equal("options", response.options, ())


@case("An option that is cut short is malformed.")
def _(client):
    for rdata in [b"\xfd\xe9\x00\x05x", b"\xfd\xe9\x00", b"\xfd"]:
        opt = b"\x00" + struct.pack("!HHIH", dns.rdatatype.OPT, 1232, 0, len(rdata)) + rdata
        malformed(client, with_additional(1, opt))


@case("Other versions of EDNS are answered with BADVERS and the version that is known.")
def _(client):
    for version in [1, 2, 255]:
        asked = query("web.alice.svc.")
        asked.use_edns(version)
        client.send(asked.to_wire())
        response = dns.message.from_wire(client.receive())
        equal("id", response.id, asked.id)
        equal("rcode", dns.rcode.to_text(response.rcode()), "BADVERS")
        equal("version", response.edns, 0)
        bare(response)


@case("Two OPT records are malformed.")
def _(client):
    malformed(client, with_additional(2, OPT + OPT))


@case("An OPT record whose owner is not the root is malformed.")
def _(client):
    malformed(client, with_additional(1, b"\x01x" + OPT))


# Cookies and the server's name

COOKIE = dns.edns.OptionType.COOKIE
CLIENT_COOKIE = bytes.fromhex("2464c4abcf10c957")


def cookie(response):
    found = [option for option in response.options if option.otype == COOKIE]
    equal("cookies", len(found), 1)
    return found[0]


@case("A client's cookie gets the server's, which is taken again.")
def _(client):
    for name, code in [("web.alice.svc.", "NOERROR"), ("nobody.alice.svc.", "NXDOMAIN"), ("web.", "NOERROR")]:
        first = cookie(ask(client, query(name, options=[dns.edns.CookieOption(CLIENT_COOKIE, b"")]), code))
        equal("the client's cookie", first.client, CLIENT_COOKIE)
        equal("bytes of the server's cookie", len(first.server), 16)
        equal("version of the server's cookie", first.server[0], 1)
        again = cookie(ask(client, query(name, options=[dns.edns.CookieOption(CLIENT_COOKIE, first.server)]), code))
        equal("the client's cookie", again.client, CLIENT_COOKIE)
        equal("bytes of the server's cookie", len(again.server), 16)


@case("The server's cookies differ by client cookie.")
def _(client):
    def server_cookie(of):
        return cookie(ask(client, query("web.alice.svc.", options=[dns.edns.CookieOption(of, b"")]))).server

    check(server_cookie(b"a" * 8)[8:] != server_cookie(b"b" * 8)[8:], "they have the same hash")


@case("A server's cookie that it has not made is replaced.")
def _(client):
    for forged in [b"\xff" * 8, b"\x01" + b"\x00" * 15, b"\xee" * 16, b"\x00" * 32]:
        options = [dns.edns.CookieOption(CLIENT_COOKIE, forged)]
        fresh = cookie(ask(client, query("web.alice.svc.", options=options)))
        check(fresh.server != forged and len(fresh.server) == 16, f"{fresh.server.hex()} is taken")


@case("A cookie of a wrong length is malformed.")
def _(client):
    for length in [0, 1, 7, 9, 15, 41, 100]:
        option = dns.edns.GenericOption(COOKIE, b"c" * length)
        malformed(client, query("web.alice.svc.", options=[option]).to_wire())


@case("A cookie without a question is answered, as RFC 7873 has it.")
def _(client):
    asked = dns.message.Message()
    asked.use_edns(0, payload=1232, options=[dns.edns.CookieOption(CLIENT_COOKIE, b"")])
    response = ask(client, asked, authoritative=False)
    equal("bytes of the server's cookie", len(cookie(response).server), 16)
    bare(response)


@case("The server tells its name to who asks for it, and to nobody else.")
def _(client):
    response = ask(client, query("web.alice.svc.", options=[dns.edns.NSIDOption(b"")]))
    names = [option.nsid.decode() for option in response.options if option.otype == dns.edns.OptionType.NSID]
    equal("NSID", names, [FACTS["instance"]])
    equal("options", ask(client, query("web.alice.svc.")).options, ())


# What is not a query for the mesh

@case("Of the header's bits, RD and CD are copied, and AD and the reserved one are not.")
def _(client):
    for bits in [0, dns.flags.RD, dns.flags.CD, dns.flags.AD | 0x40, dns.flags.RD | dns.flags.CD | dns.flags.AD | 0x40]:
        for payload in [None, 1232]:
            asked = query("web.alice.svc.", payload=payload)
            asked.flags = bits
            response = ask(client, asked)
            addresses(response, "web.alice.svc.", "A", WEB_A)
            equal("CD", response.flags & dns.flags.CD, bits & dns.flags.CD)


@case("Two questions are malformed.")
def _(client):
    malformed(client, struct.pack("!6H", ID, 0x0100, 2, 0, 0, 0) + (WEB + IN_A) * 2)


@case("No question at all is malformed.")
def _(client):
    malformed(client, struct.pack("!6H", ID, 0x0100, 0, 0, 0, 0))
    malformed(client, struct.pack("!6H", ID, 0x0100, 0, 0, 0, 1) + OPT)


@case("Responses get no answer.")
def _(client):
    unanswered(client, struct.pack("!6H", ID, 0x8180, 1, 0, 0, 0) + WEB + IN_A)


@case("Other operations are not implemented.")
def _(client):
    for opcode in [1, 2, 3, dns.opcode.NOTIFY, dns.opcode.UPDATE, 6, 15]:
        header = struct.pack("!6H", ID, opcode << 11, 1, 0, 0, 0)
        number, rcode, answered = raw(client, header + WEB + struct.pack("!2H", dns.rdatatype.SOA, 1))
        equal("id", number, ID)
        equal(f"rcode of operation {opcode}", rcode, "NOTIMP")
        equal("operation", answered[2] >> 3 & 0xF, int(opcode))
    lives(client)


@case("Other classes are refused.")
def _(client):
    for name, kind, of_class in [
        ("version.bind.", "TXT", dns.rdataclass.CH),
        ("hostname.bind.", "TXT", dns.rdataclass.CH),
        ("web.alice.svc.", "A", dns.rdataclass.CH),
        ("web.alice.svc.", "A", dns.rdataclass.HS),
        ("web.alice.svc.", "A", dns.rdataclass.NONE),
        ("web.alice.svc.", "A", dns.rdataclass.ANY),
        ("web.alice.svc.", "A", 4711),
    ]:
        bare(ask(client, query(name, kind, rdclass=of_class), "REFUSED", authoritative=False))


@case("Zones are not transferred.")
def _(client):
    for name in ["svc.", "alice.svc.", "."]:
        for kind in ["AXFR", "IXFR"]:
            bare(ask(client, query(name, kind), "REFUSED", authoritative=False))


# TCP

@case("One connection takes many queries, one after another.", ["TCP"])
def _(client):
    for number in range(50):
        name = f"x{number}.bob.svc."
        addresses(ask(client, query(name)), name, "A", [FACTS["gateway"]])


@case("Queries that are sent at once are all answered, in any order.", ["TCP"])
def _(client):
    sent = {}
    for number in range(50):
        name = ["web.alice.svc.", "db.alice.svc.", "far.example.", f"x{number}.bob.svc."][number % 4]
        asked = query(name, id=number + 1)
        sent[asked.id] = asked
    client.socket.sendall(b"".join(framed(asked.to_wire()) for asked in sent.values()))
    for _ in range(len(sent)):
        response = dns.message.from_wire(client.receive())
        asked = sent.pop(response.id)
        check(asked.is_response(response), f"{response} does not answer {asked}")
        check(response.answer, f"no answer in {response}")


@case("A query that comes in pieces is one.", ["TCP"])
def _(client):
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked = query("web.alice.svc.")
    for byte in framed(asked.to_wire()):
        client.socket.sendall(bytes([byte]))
    addresses(dns.message.from_wire(client.receive()), "web.alice.svc.", "A", WEB_A)


@case("A client that says no more still hears its answers.", ["TCP"])
def _(client):
    for name in ["web.alice.svc.", "far.example."]:
        fresh = type(client)()
        fresh.send(query(name).to_wire())
        fresh.socket.shutdown(socket.SHUT_WR)
        check(dns.message.from_wire(fresh.receive()).answer, f"no answer for {name}")
