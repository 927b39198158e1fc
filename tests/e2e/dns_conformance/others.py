"""Names that others answer for, and search paths."""

import dns.name
import dns.resolver

from client import ADDRESS, FACTS, PORT, TIMEOUT, Tcp, Udp, WEB_A, ask, bare, case, check, equal, query


@case("Names of others are asked upstream.")
def _(client):
    response = ask(client, query("host.example."), authoritative=False)
    equal("answer", [str(data) for rrset in response.answer for data in rrset], ["192.0.2.7"])
    check(1 <= response.answer[0].ttl <= 300, str(response.answer[0]))
    response = ask(client, query("HoSt.eXaMpLe."), authoritative=False)
    equal("owner", str(response.answer[0].name), "HoSt.eXaMpLe.")


@case("Names of others that do not exist, or have no data, come with the SOA of their zone.")
def _(client):
    for name, kind, code in [("absent.example.", "A", "NXDOMAIN"), ("host.example.", "AAAA", "NOERROR")]:
        response = ask(client, query(name, kind), code, authoritative=False)
        equal("sets in the answer", response.answer, [])
        equal("authority", [(str(rrset.name), rrset.rdtype.name) for rrset in response.authority], [(".", "SOA")])
        check(response.authority[0].ttl <= 60, f"it lives longer than its MINIMUM: {response.authority[0]}")


@case("The addresses of others are asked upstream too.")
def _(client):
    response = ask(client, query("9.9.9.10.in-addr.arpa.", "PTR"), authoritative=False)
    equal("answer", [str(data) for rrset in response.answer for data in rrset], ["ten.example."])


@case("An answer of others that is large comes whole, or truncated where it does not fit.")
def _(client):
    asked = query("large.example.", "TXT")
    if isinstance(client, Udp):
        bare(ask(client, asked, authoritative=False, truncated=True))
    else:
        response = ask(client, asked, authoritative=False)
        equal("records", len(response.answer[0]), 20)


@case("Who wants no recursion gets none.")
def _(client):
    bare(ask(client, query("host.example.", flags=0), "REFUSED", authoritative=False))


def resolver(client, ndots):
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [ADDRESS], PORT
    resolver.search = [dns.name.from_text(suffix) for suffix in ["alice.svc.", "svc."]]
    resolver.ndots, resolver.timeout, resolver.lifetime = ndots, TIMEOUT, TIMEOUT
    return resolver


@case("Short names resolve along search paths, with few dots and with many.")
def _(client):
    for ndots, name, found, expected in [
        (1, "web", "web.alice.svc.", WEB_A),
        (1, "echo.bob", "echo.bob.svc.", [FACTS["gateway"]]),
        (1, "web.alice.svc", "web.alice.svc.", WEB_A),
        (1, "host.example", "host.example.", ["192.0.2.7"]),
        (2, "web", "web.alice.svc.", WEB_A),
        (2, "web.alice", "web.alice.svc.", WEB_A),
        (2, "echo.bob", "echo.bob.svc.", [FACTS["gateway"]]),
        (2, "echo.bob.svc", "echo.bob.svc.", [FACTS["gateway"]]),
        (2, "host.example", "host.example.", ["192.0.2.7"]),
        (5, "web", "web.alice.svc.", WEB_A),
        (5, "web.alice", "web.alice.svc.", WEB_A),
        (5, "echo.bob", "echo.bob.svc.", [FACTS["gateway"]]),
        (5, "web.alice.svc", "web.alice.svc.", WEB_A),
        (5, "host.example", "host.example.", ["192.0.2.7"]),
    ]:
        answer = resolver(client, ndots).resolve(name, "A", search=True, tcp=isinstance(client, Tcp))
        equal(f"name for {name} with ndots {ndots}", str(answer.qname), found)
        equal(f"addresses of {name} with ndots {ndots}", sorted(map(str, answer)), sorted(expected))
    for ndots in [1, 2, 5]:
        try:
            answer = resolver(client, ndots).resolve("nobody", "A", search=True, tcp=isinstance(client, Tcp))
        except dns.resolver.NXDOMAIN:
            continue
        check(False, f"nobody is {answer.rrset}")
