"""What the DNS server of domain `alice` owes its clients, asked by dnspython.

conformance.py ADDRESS PORT FACTS, where the facts are `gateway` (an IPv4 address), `instance`, and `ready`: names that
must have an address before anything else is asked.

Prints a JSON object for each case and transport: `case`, `over`, and `failure`, which is null if all is well.
"""

import collections
import json
import sys
import time

import dns.message

import garbage
import names
import others
import protocol
from client import CASES, FACTS, Tcp, Udp, query

READY = 30
POLL = 0.05


def wait_until_ready():
    """Until a query for each of the names finds an address."""
    deadline = time.monotonic() + READY
    missing = collections.deque(FACTS["ready"])
    while missing:
        client = Udp()
        client.send(query(missing[0]).to_wire())
        if dns.message.from_wire(client.receive()).answer:
            missing.popleft()
        elif time.monotonic() > deadline:
            sys.exit(f"{missing[0]} does not resolve")
        else:
            time.sleep(POLL)


def failure(check, client):
    try:
        check(client())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


wait_until_ready()
for sentence, over, check in CASES:
    for transport in over:
        failed = failure(check, {"UDP": Udp, "TCP": Tcp}[transport])
        print(json.dumps({"case": sentence, "over": transport, "failure": failed}), flush=True)
