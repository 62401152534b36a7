"""The ASGI app of the end-to-end tests; wsgi.py says what it answers."""
import asyncio
import hashlib
import json
import os
from urllib.parse import parse_qs


async def meet(query):
    name = parse_qs(query)["name"][0]
    open(name + ".here", "w").close()
    for _ in range(2000):
        if os.path.exists(name + ".go"):
            return b"done\n"
        await asyncio.sleep(0.005)
    return b"nobody came\n"


async def echo(receive):
    digest, length, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    return {"length": length, "sha256": digest.hexdigest()}


async def stream(query, send, kind=b"text/plain"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    if await meet(query) != b"done\n":
        await send({"type": "http.response.body", "body": b"nobody came\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"two\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"three\n"})


async def drip(query, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for drop in range(int(parse_qs(query)["drops"][0])):
        await send({"type": "http.response.body", "body": b"%d\n" % drop, "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b""})


async def big(query, send):
    token, size = parse_qs(query)["token"][0], int(parse_qs(query)["bytes"][0])
    piece = (token + "\n").encode() * 2048
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
    while size > 0:
        piece = piece[:size]
        size -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": size > 0})


async def web_socket(receive, send):
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message["type"] == "websocket.receive":  # the first one says "connect"
            await send({"type": "websocket.send", "text": message["text"]})


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        return await web_socket(receive, send)
    if scope["type"] != "http":
        raise RuntimeError("this app speaks only http")
    path, query = scope["path"], scope["query_string"].decode()
    if path == "/stream":
        return await stream(query, send)
    if path == "/events":
        return await stream(query, send, b"text/event-stream")
    if path == "/drip":
        return await drip(query, send)
    if path == "/big":
        return await big(query, send)
    if path == "/wait":
        body, kind = await meet(query), b"text/plain"
    else:
        facts = await echo(receive) if path == "/echo" else {
            "method": scope["method"],
            "path": path,
            "query": query,
            "fields": {name.decode(): value.decode() for name, value in scope["headers"]},
        }
        body, kind = json.dumps(facts).encode(), b"application/json"
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", kind), (b"content-length", length)]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
