"""Asks the DNS server of domain `alice` and an NSD the same, and compares what they say.

zone.py ADDRESS PORT FACTS, where the facts are `nsd` (its address and its port), `zone` (the master file that NSD has
read), and `bare` (names that exist without records).

Prints a JSON object for each question: `case`, `over`, and `failure`, which is null if both say the same.
"""

import json

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.zone

from client import FACTS, Tcp, Udp, query

TYPES = ["A", "AAAA", "SRV", "PTR", "NS", "SOA", "TXT", "MX", "CNAME", "TYPE65280", "ANY"]

ORIGIN = dns.name.from_text("svc.")
BARE = {dns.name.from_text(name) for name in FACTS["bare"]}


class Server:
    def __init__(self, *place):
        self.place, self.udp = place, Udp(*place)

    def ask(self, name, kind):
        # Without recursion, for NSD has none.
        asked = query(name, kind, flags=0)
        self.udp.send(asked.to_wire())
        response = dns.message.from_wire(self.udp.receive())
        if response.flags & dns.flags.TC:
            tcp = Tcp(*self.place)
            tcp.send(asked.to_wire())
            response = dns.message.from_wire(tcp.receive())
        return seen(response)


def seen(response):
    """Sets of records are compared without regard to their order, as text."""
    said = {
        "rcode": dns.rcode.to_text(response.rcode()),
        "AA": bool(response.flags & dns.flags.AA),
        "answer": records(response.answer),
    }
    if not response.answer:
        # Beside an answer, NSD shows the NS of the zone and addresses for it, which nobody needs.
        said["authority"] = records(response.authority)
    return said


def records(section):
    return sorted(sorted(rrset.to_text().splitlines()) for rrset in section)


def names(zone):
    """Each that the zone has, those above them, and some beside and below that it has not."""
    owners = {name for name, _ in zone.items()}
    above = {parent for name in owners for parent in parents(name)}
    known = {name for name in owners | above if not name.is_wild()}
    unknown = {child(label, name) for name in known for label in ["absent", "*", "_tcp"]}
    wild = {child(label, name.parent()) for name in owners if name.is_wild() for label in ["any", "*", "xn--z"]}
    deep = {child("deep", name) for name in wild}
    return sorted(known | unknown | wild | deep | BARE)


def parents(name):
    while name.parent().is_subdomain(ORIGIN) and name != ORIGIN:
        name = name.parent()
        yield name


def child(label, name):
    return dns.name.Name([label.encode(), *name.labels])


def difference(name, kind, zone, ours, nsds):
    if kind == "ANY" and nsds["answer"]:
        # RFC 8482, 4.1: one of the sets is enough.
        if len(ours["answer"]) == 1 and ours["answer"][0] in nsds["answer"]:
            ours = nsds | {"rcode": ours["rcode"], "AA": ours["AA"]}
    # What a master file cannot say: that the names of another domain's services have one label, and that a name is
    # there without records.
    if is_deep_below_wildcard(name, zone):
        nsds = negative("NXDOMAIN", zone)
    if name in BARE:
        nsds = negative("NOERROR", zone)
    return None if ours == nsds else f"{ours}, and NSD: {nsds}"


def negative(rcode, zone):
    return {"rcode": rcode, "AA": True, "answer": [], "authority": records([zone.get_rrset(ORIGIN, "SOA")])}


def is_deep_below_wildcard(name, zone):
    return any(zone.get_node(child("*", above)) for above in list(parents(name))[1:])


zone = dns.zone.from_text(FACTS["zone"], ORIGIN, relativize=False)
ours, nsd = Server(), Server(*FACTS["nsd"])
for name in names(zone):
    for kind in TYPES:
        failure = difference(name, kind, zone, ours.ask(name, kind), nsd.ask(name, kind))
        print(json.dumps({"case": f"{name} {kind}", "over": "UDP", "failure": failure}))
