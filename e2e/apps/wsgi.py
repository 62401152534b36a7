"""The WSGI app of the end-to-end tests.

Every app in this folder answers the same paths:

    /        the request as the app saw it, as JSON
    /echo    length and SHA-256 of the body it was sent, as JSON
    /wait    makes the file NAME.here, waits for NAME.go (?name=NAME), then answers
    /stream  "one", then waits like /wait, then "two" and "three"
    /big     its token (?token=TOKEN&bytes=N), again and again; ASGI only
    /nap     like /, but 100 ms later; WSGI only
    /large   so many MiB (?mib=10); WSGI only
    /events  like /stream, as text/event-stream; uvicorn and Rack only
    /hijack  like /events, by rack.hijack of a body; /seized by that of the whole answer; Rack only
    /ws      a WebSocket that sends back what it gets; ASGI and node

The plain apps answer any other path like /. Those of a framework (Flask,
Django, Sinatra) are as small as it lets them be: /, /echo and /stream.
"""
import hashlib
import json
import os
import time
from urllib.parse import parse_qs


def meet(query):
    """Say that we are here, and wait until the test lets us go on."""
    name = parse_qs(query)["name"][0]
    open(name + ".here", "w").close()
    deadline = time.monotonic() + 10
    while not os.path.exists(name + ".go"):
        if time.monotonic() > deadline:
            return b"nobody came\n"
        time.sleep(0.005)
    return b"done\n"


def fields(environ):
    found = {k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
    for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        if environ.get(name):
            found[name.lower().replace("_", "-")] = environ[name]
    return found


def echo(body):
    digest, length = hashlib.sha256(), 0
    while chunk := body.read(65536):
        digest.update(chunk)
        length += len(chunk)
    return {"length": length, "sha256": digest.hexdigest()}


def stream(query):
    yield b"one\n"
    if meet(query) != b"done\n":
        yield b"nobody came\n"
    yield b"two\n"
    yield b"three\n"


def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    if path == "/nap":
        time.sleep(0.1)
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(query)
    if path == "/large":
        count = int(parse_qs(query)["mib"][0])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(count << 20))])
        return (b"%015d\n" % mib * 65536 for mib in range(count))
    if path == "/wait":
        body, kind = meet(query), "text/plain"
    else:
        facts = echo(environ["wsgi.input"]) if path == "/echo" else {
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "query": query,
            "fields": fields(environ),
        }
        body, kind = json.dumps(facts).encode(), "application/json"
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
