"""A gateway of Kuscia's, as another gateway sees it: written from Kuscia's wire, without any code of the mesh.

kuscia.py COMMAND OPTIONS, where the options are a JSON object, by the names of the command's parameters:

keygen       makes a private key, and prints the public one as routes have it
source       asks a destination for a token
replay       sends the body of an earlier request again
probe        asks a destination for the state of a token
call         asks a service of another domain
destination  serves domains until its input ends

Each prints a JSON object; `destination` prints one for every handshake and every probe. A fault makes one thing wrong,
and leaves all else as it should be: see `FAULTS`.
"""

import base64
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PREFIX = b"kuscia"
TOKEN_BYTES = 32
SHARE_BYTES = 16
FAILED = 500
SECOND = 10**9
HUNDRED_YEARS = 100 * 365 * 24 * 3600
KEPT_TOKENS = 2

# States of a token; 3 is one that is not ready.
READY, NO_SOURCE, NO_REVISION, NOT_FOUND, NO_ROUTE = 0, 1, 2, 4, 5


# The commands


def keygen(key):
    private = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    pathlib.Path(key).write_bytes(pem)
    show({"public_key": encode(public_pem(private.public_key()))})


def source(address, domain, key, peer, peer_key, type, hashed_key=None, revision=0, clock=0, fault=None):
    """`hashed_key` is the public key that the request names, unless it is the domain's own; `revision` is that of the
    token in use, `clock` how many seconds this side's clock is ahead.
    """
    private = read_private(key)
    share = b"" if type == "UID" else os.urandom(SHARE_BYTES)
    request = {"domain_id": domain, "type": type}
    if share:
        hashed = read_public(hashed_key) if hashed_key else private.public_key()
        request["token_config"] = {
            "token": seal(read_public(peer_key), share, fault),
            "revision": revision,
            "pubhash": pubhash(hashed),
        }
    request["request_time"] = time.time_ns() + clock * SECOND
    body = go_json(request)
    status, answer = post(address, domain, peer, body)
    shown = {"request": body, "status": status, "answer": answer}
    if status == 200:
        answer = json.loads(answer)
        # Where Go finds a field missing, it has its zero value.
        shown["code"] = integer(answer["status"].get("code", 0), 32)
        shown["message"] = answer["status"].get("message", "")
        if shown["code"] == 0:
            token = answer["token"]
            other = unseal(private, token["token"], TOKEN_BYTES - len(share))
            shown["token"] = encode(share + other)
            shown["revision"] = integer(token.get("revision", 0), 32)
            shown["expiration_time"] = integer(token.get("expiration_time", 0), 64)
    show(shown)


def replay(address, domain, peer, request):
    status, answer = post(address, domain, peer, request)
    show({"status": status, "answer": answer})


def probe(address, domain, peer, revision=None):
    headers = handshake_headers(domain, peer)
    if revision is not None:
        headers["Kuscia-Token-Revision"] = str(revision)
    status, _, answer = exchange(address, "GET", "/handshake", headers)
    show({"status": status, "answer": answer})


def call(address, domain, host, token):
    headers = {
        "Host": host,
        "Kuscia-Source": domain,
        "Kuscia-Origin-Source": domain,
        "Kuscia-Host": host,
        "Kuscia-Token": token,
        "x-interconn-protocol": "kuscia",
    }
    status, headers, body = exchange(address, "GET", "/", headers)
    show({"status": status, "headers": headers, "body": body})


def destination(address, domains):
    """`domains` by name, each with the parameters of `Domain`."""
    Gateway.domains = {name: Domain(name, **settings) for name, settings in domains.items()}
    host, port = address.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


# Kuscia as a destination


class Domain:
    """A domain and the routes to it."""

    def __init__(self, name, key, sources, period=0, revision=0, clock=0, fault=None, state=None):
        """`sources` by name, with their public keys; `revision` is that of the last token that was made;
        `clock` is how many seconds this side's clock is ahead; `state` is what probes are answered, if not the truth.
        """
        self.name = name
        self.key = read_private(key)
        self.sources = {source: read_public(public) for source, public in sources.items()}
        self.period = period
        self.clock = clock
        self.fault = fault
        self.state = state
        self.revisions = dict.fromkeys(self.sources, revision)
        self.tokens = {source: [] for source in self.sources}

    def handshake(self, request):
        """Answers the destination's share of a token, what it is accepted until, and its revision."""
        source = request.get("domain_id", "")
        route = f"{source}-{self.name}"
        if source not in self.sources:
            raise Refusal(f"domainRoute [{route}] not found in dest domain [{self.name}]")
        source_key = self.sources[source]
        match request.get("type", ""):
            case "RSA":
                config = request["token_config"]
                integer(config.get("revision", 0), 64)
                if config["pubhash"] != pubhash(source_key):
                    raise Refusal(f"source domain [{source}] publickey hash mismatch in domainroute [{route}]")
                try:
                    token = unseal(self.key, config["token"], SHARE_BYTES)
                except ValueError:
                    blamed = f"dest domain [{self.name}] publickey in source domain [{source}]"
                    raise Refusal(f"{blamed} may be not correct") from None
                share = os.urandom(SHARE_BYTES)
                token += share
            case "UID":
                # Within the period, a source is given the token that it has, under a new number.
                kept = [token for _, token in self.tokens[source][-1:]]
                token = share = kept[0] if kept else os.urandom(TOKEN_BYTES)
            case other:
                raise Refusal(f"invalid handshake type [{other}]")
        self.revisions[source] += 1
        self.tokens[source] = [*self.tokens[source], (self.revisions[source], token)][-KEPT_TOKENS:]
        lifetime = 2 * self.period if self.period else HUNDRED_YEARS
        return {
            "token": seal(source_key, share, self.fault),
            "expiration_time": time.time_ns() + (self.clock + lifetime) * SECOND,
            "revision": self.revisions[source],
        }

    def token_state(self, source, revision):
        if self.state is not None:
            return self.state
        if not source:
            return NO_SOURCE
        if source not in self.sources:
            return NO_ROUTE
        if not revision:
            return NO_REVISION
        known = [str(number) for number, _ in self.tokens[source]]
        return READY if revision in known else NOT_FOUND

    def accepts(self, source, token):
        return token in [encode(token) for _, token in self.tokens.get(source, [])]


class Refusal(Exception):
    """A handshake is refused, with a message for the source."""


class Gateway(http.server.BaseHTTPRequestHandler):
    """The external listener of a domain's Envoy, with the handshake service behind it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    domains = {}
    turn = threading.Lock()

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        host = self.headers.get("Kuscia-Host", "")
        found = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc", host)
        service, domain = found.groups() if found else (host, "")
        domain = self.domains.get(domain)
        with self.turn:
            if domain is None:
                self.fail(404, "nobody", f'Service "{host}" not found.')
            elif service == "kuscia-handshake":
                self.serve_handshake(domain, body)
            elif not domain.accepts(self.headers.get("Kuscia-Source"), self.headers.get("Kuscia-Token")):
                refusal = {"domain": domain.name, "instance": "kuscia", "kuscia": "v1.1.0", "reason": "unauthorized."}
                self.fail(401, domain.name, "unauthorized.", go_json(refusal) + "\n")
            elif service != "web":
                self.fail(404, domain.name, f'Service "{host}" not found.')
            else:
                self.answer(200, go_json({"service": host, "path": self.path, "headers": self.all_headers()}))

    do_POST = do_GET

    def serve_handshake(self, domain, body):
        if self.path != "/handshake":
            self.answer(404, "404 page not found\n")
            return
        asked = {"domain": domain.name, "headers": self.all_headers()}
        if self.command == "GET":
            # Without a revision it is the other gateway's check of this one's health.
            show({"probe" if "kuscia-token-revision" in asked["headers"] else "check": asked})
            source = self.headers.get("Kuscia-Origin-Source") or self.headers.get("Kuscia-Source")
            state = domain.token_state(source, self.headers.get("Kuscia-Token-Revision"))
            answer = json.dumps({"namespace": domain.name, "state": state}, separators=(",", ":"))
            self.answer(200, answer + "\n")
            return
        show({"handshake": asked | {"body": body}})
        try:
            answer = {"status": {}, "token": domain.handshake(json.loads(body))}
        except Refusal as refusal:
            answer = {"status": {"code": FAILED, "message": str(refusal)}}
        self.answer(200, go_json(answer) + "\n")

    def all_headers(self):
        return {name.lower(): ", ".join(self.headers.get_all(name)) for name in self.headers}

    def fail(self, status, domain, problem, body=""):
        self.answer(status, body, {"Kuscia-Error-Message": f"<{domain}/kuscia/external {problem}>"})

    def answer(self, status, body, headers=None):
        self.send_response(status)
        usual = {"Content-Type": "application/json", "Content-Length": len(body.encode())}
        for name, value in (usual | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format, *arguments):
        pass


# The wire


def post(address, domain, peer, body):
    headers = handshake_headers(domain, peer) | {"Content-Type": "application/json"}
    status, _, answer = exchange(address, "POST", "/handshake", headers, body)
    return status, answer


def handshake_headers(domain, peer):
    return {
        "User-Agent": "Go-http-client/1.1",
        "Kuscia-Handshake-Cluster": f"{domain}-to-{peer}-http",
        "Kuscia-Source": domain,
        "Kuscia-Host": f"kuscia-handshake.{peer}.svc",
    }


def exchange(address, method, path, headers, body=None):
    connection = http.client.HTTPConnection(address, timeout=40)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, response.read().decode()


def go_json(struct):
    """What Go makes of a struct whose fields are all `omitempty`: in the order of the fields, without zero values."""

    def without_zeros(value):
        if not isinstance(value, dict):
            return value
        return {name: without_zeros(part) for name, part in value.items() if part not in ("", 0, None)}

    text = json.dumps(without_zeros(struct), separators=(",", ":"), ensure_ascii=False)
    return re.sub("[<>&]", lambda character: f"\\u{ord(character[0]):04x}", text)


def integer(value, bits):
    """Go reads a number only if it fits the field."""
    if type(value) is not int or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"{value!r} is no integer of {bits} bits")
    return value


# Keys and secrets

# What can be wrong with a share: how its bytes are encrypted, and how the result is written.
FAULTS = {
    None: lambda key, share: encode(encrypt(key, PREFIX + share)),
    "truncated_share": lambda key, share: encode(encrypt(key, PREFIX + share)[:-1]),
    "share_with_newline": lambda key, share: re.sub("(.{76})", r"\1\n", encode(encrypt(key, PREFIX + share))),
    "share_in_url_alphabet": lambda key, share: encode_for_urls(key, PREFIX + share),
    "share_without_padding": lambda key, share: encode(encrypt(key, PREFIX + share)).rstrip("="),
    "short_share": lambda key, share: encode(encrypt(key, PREFIX + share[:-1])),
    "long_share": lambda key, share: encode(encrypt(key, PREFIX + share + b"x")),
    "double_share": lambda key, share: encode(encrypt(key, PREFIX + share + share)),
    "no_prefix": lambda key, share: encode(encrypt(key, share)),
    "other_key": lambda key, share: encode(
        encrypt(rsa.generate_private_key(65537, 2048).public_key(), PREFIX + share)
    ),
}


def seal(public, share, fault=None):
    return FAULTS[fault](public, share)


def unseal(private, sealed, size):
    # Go's decoder passes over the ends of lines.
    block = base64.b64decode(sealed.replace("\r", "").replace("\n", ""), validate=True)
    # A block whose padding is wrong may decrypt to anything.
    plain = private.decrypt(block, padding.PKCS1v15())
    if len(plain) != len(PREFIX) + size or not plain.startswith(PREFIX):
        raise ValueError("the share is not encrypted for this key, or has another size")
    return plain[len(PREFIX) :]


def encrypt(public, plain):
    return public.encrypt(plain, padding.PKCS1v15())


def encode(data):
    return base64.b64encode(data).decode()


def encode_for_urls(public, plain):
    """Repeats until the two alphabets differ."""
    while True:
        block = encrypt(public, plain)
        text = base64.urlsafe_b64encode(block).decode()
        if text != encode(block):
            return text


def pubhash(public):
    return encode(hashlib.sha256(public_pem(public)).digest())


def public_pem(public):
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)


def read_private(file):
    return serialization.load_pem_private_key(pathlib.Path(file).read_bytes(), None)


def read_public(text):
    """Reads the key out of the form in which a route has it: base64 of PEM."""
    return serialization.load_pem_public_key(base64.b64decode(text))


def show(value):
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    commands = [keygen, source, replay, probe, call, destination]
    by_name = {command.__name__: command for command in commands}
    by_name[sys.argv[1]](**json.loads(sys.argv[2]))
