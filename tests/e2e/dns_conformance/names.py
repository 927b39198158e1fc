"""The names of the domain."""

import collections

import dns.name
import dns.reversename

from client import FACTS, TTL, WEB_A, WEB_AAAA, addresses, ask, case, check, equal, negative, query


@case("A service has its ready addresses under each of its names.")
def _(client):
    for name in ["web.", "web.alice.", "web.alice.svc."]:
        addresses(ask(client, query(name)), name, "A", WEB_A)
        addresses(ask(client, query(name, "AAAA")), name, "AAAA", WEB_AAAA)


@case("A client without EDNS gets the same answers, without OPT.")
def _(client):
    for name in ["web.", "web.alice.", "web.alice.svc."]:
        addresses(ask(client, query(name, payload=None)), name, "A", WEB_A)
        addresses(ask(client, query(name, "AAAA", payload=None)), name, "AAAA", WEB_AAAA)


@case("The case of letters is kept in the question and in the owners of the answer.")
def _(client):
    for name in ["WeB.aLiCe.SvC.", "WEB.ALICE.", "wEb.", "eChO.bOb.SVC."]:
        response = ask(client, query(name))
        equal("owner", response.answer[0].name.labels, dns.name.from_text(name).labels)
    response = ask(client, query("_HTTP._tcp.WEB.alice.svc.", "SRV"))
    equal("owner", str(response.answer[0].name), "_HTTP._tcp.WEB.alice.svc.")


@case("A name without addresses of a family has no data.")
def _(client):
    for name in ["four.alice.svc.", "four.", "echo.bob.svc."]:
        negative(ask(client, query(name, "AAAA")))
    negative(ask(client, query("down.alice.svc.")))


@case("A name has no data of types that it has not, known ones or not.")
def _(client):
    for kind in ["TXT", "MX", "NS", "SOA", "CNAME", "HTTPS", "DS", "TYPE65280", "TYPE0"]:
        negative(ask(client, query("web.alice.svc.", kind)))


@case("A name below or beside what is there does not exist.")
def _(client):
    for name in ["nobody.alice.svc.", "x.web.alice.svc.", "a.b.c.d.web.alice.svc.", "carol.svc.", "web.carol.svc."]:
        for kind in ["A", "AAAA", "TXT", "ANY", "SRV", "PTR"]:
            negative(ask(client, query(name, kind), "NXDOMAIN"))


@case("A name that others are below exists without data.")
def _(client):
    for name in ["alice.svc.", "bob.svc.", "_tcp.web.alice.svc."]:
        for kind in ["A", "AAAA", "TXT", "ANY", "MX"]:
            negative(ask(client, query(name, kind)))
    negative(ask(client, query("svc.", "A")))


@case("Bytes that no host name has are bytes like any other.")
def _(client):
    for label in [b"\x00", b"\xff\xfe", b"a.b", b" ", b"*", b"x" * 63]:
        negative(ask(client, query(dns.name.Name([label, b"alice", b"svc", b""])), "NXDOMAIN"))
        name = dns.name.Name([label, b"bob", b"svc", b""])
        addresses(ask(client, query(name)), str(name), "A", [FACTS["gateway"]])


@case("A name of 255 bytes is a name.")
def _(client):
    longest = dns.name.Name([b"x" * 63, b"x" * 63, b"x" * 63, b"x" * 51, b"alice", b"svc", b""])
    equal("its length", len(longest.to_wire()), 255)
    negative(ask(client, query(longest), "NXDOMAIN"))


@case("All names of a domain with a route lead to the gateway.")
def _(client):
    for name in ["echo.bob.svc.", "anything.bob.svc."]:
        addresses(ask(client, query(name)), name, "A", [FACTS["gateway"]])
    negative(ask(client, query("too.deep.bob.svc."), "NXDOMAIN"))


@case("A service whose clients are to go through the gateway has its address.")
def _(client):
    for name in ["inner.", "inner.alice.", "inner.alice.svc."]:
        addresses(ask(client, query(name)), name, "A", [FACTS["gateway"]])
    addresses(ask(client, query("outer.alice.svc.")), "outer.alice.svc.", "A", [FACTS["gateway"]])


@case("A service that is another host has an alias for it, and what the host resolves to.")
def _(client):
    for name in ["db.", "db.alice.", "db.alice.svc."]:
        response = ask(client, query(name))
        found = [(str(rrset.name), rrset.rdtype.name, [str(data) for data in rrset]) for rrset in response.answer]
        equal("answer", found, [(name, "CNAME", ["host.example."]), ("host.example.", "A", ["192.0.2.7"])])
        equal("TTL", response.answer[0].ttl, TTL)
    response = ask(client, query("db.alice.svc.", "CNAME"))
    equal("answer", [str(data) for rrset in response.answer for data in rrset], ["host.example."])


@case("An alias stands alone for who wants no recursion.")
def _(client):
    response = ask(client, query("db.alice.svc.", flags=0))
    equal("answer", [rrset.to_text() for rrset in response.answer], [f"db.alice.svc. {TTL} IN CNAME host.example."])


@case("A service that is another host's address has that address.")
def _(client):
    for name in ["fixed.", "fixed.alice.svc."]:
        addresses(ask(client, query(name)), name, "A", ["192.0.2.44"])


@case("The named port of a service has an SRV record for each endpoint, with the endpoints' addresses beside them.")
def _(client):
    for name in ["_http._tcp.web.alice.svc.", "_HTTP._TCP.Web.Alice.SVC."]:
        response = ask(client, query(name, "SRV"))
        equal("sets in the answer", [(str(rrset.name), rrset.rdtype.name) for rrset in response.answer], [(name, "SRV")])
        (rrset,) = response.answer
        equal("TTL", rrset.ttl, TTL)
        equal("ports", [record.port for record in rrset], [80] * 4)
        equal("priorities and weights differ", len({(record.priority, record.weight) for record in rrset}), 1)
        targets = {str(record.target) for record in rrset}
        equal("targets", len(targets), 4)
        beside = {str(data): str(rrset.name) for rrset in response.additional for data in rrset}
        equal("addresses beside", sorted(beside), sorted(WEB_A + WEB_AAAA))
        equal("owners beside", set(beside.values()), targets)


@case("The target of an SRV record resolves to its endpoint alone, and back.")
def _(client):
    targets = {str(record.target) for record in ask(client, query("_http._tcp.web.alice.svc.", "SRV")).answer[0]}
    found = []
    for target in targets:
        for kind in ["A", "AAAA"]:
            response = ask(client, query(target, kind))
            if response.answer:
                found += [str(data) for data in response.answer[0]]
            else:
                negative(response)
    equal("addresses", sorted(found), sorted(WEB_A + WEB_AAAA))


@case("Ports, protocols and endpoints that are not there do not exist.")
def _(client):
    for name in ["_nope._tcp.web", "_http._udp.web", "_http._tcp.nobody", "10-9-9-9.web"]:
        negative(ask(client, query(f"{name}.alice.svc.", "SRV"), "NXDOMAIN"))


@case("An endpoint's address has the names of all its services.")
def _(client):
    for address, names in [
        ("10.1.0.1", ["twin.alice.svc.", "web.alice.svc."]),
        ("10.1.0.2", ["web.alice.svc."]),
        ("2001:db8::1", ["web.alice.svc."]),
    ]:
        name = dns.reversename.from_address(address)
        response = ask(client, query(name, "PTR"))
        (rrset,) = response.answer
        equal("owner", str(rrset.name), str(name))
        equal("TTL", rrset.ttl, TTL)
        equal("names", sorted(map(str, rrset)), names)


@case("The zone has its SOA and its NS, whose target is this server.")
def _(client):
    response = ask(client, query("svc.", "SOA"))
    found = [(str(rrset.name), rrset.rdtype.name, rrset.ttl) for rrset in response.answer]
    equal("answer", found, [("svc.", "SOA", TTL)])
    response = ask(client, query("svc.", "NS"))
    equal("answer", [(str(rrset.name), rrset.rdtype.name) for rrset in response.answer], [("svc.", "NS")])
    (target,) = [str(record.target) for record in response.answer[0]]
    addresses(ask(client, query(target)), target, "A", [FACTS["gateway"]])


@case("ANY gets one of the sets that are there, as RFC 8482 has it.")
def _(client):
    for name in ["web.alice.svc.", "four.alice.svc.", "svc.", "_http._tcp.web.alice.svc.", "db.alice.svc."]:
        response = ask(client, query(name, "ANY", flags=0))
        equal(f"sets for {name}", len(response.answer), 1)
        check(str(response.answer[0].name) == name and response.answer[0].ttl == TTL, str(response.answer[0]))


@case("Each address comes first as often as the others.")
def _(client):
    for name, kind, count in [("web.alice.svc.", "A", 3), ("web.", "A", 3), ("_http._tcp.web.alice.svc.", "SRV", 4)]:
        firsts = collections.Counter()
        for _ in range(60):
            response = ask(client, query(name, kind))
            check(response.answer, f"no answer for {name}")
            firsts[str(response.answer[0][0])] += 1
        equal(f"records of {name} that ever come first", len(firsts), count)
        check(min(firsts.values()) * 2 >= max(firsts.values()), f"{name}: {firsts}")
