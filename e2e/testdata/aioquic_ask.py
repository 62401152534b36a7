"""Asks one thing over HTTP/3 with aioquic, of 127.0.0.1, and prints what comes as it comes:

    aioquic_ask.py PORT CA PATH [FILE]

sends FILE by POST, if there is one.
"""
import asyncio
import os
import ssl
import sys

from aioquic.asyncio import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated


class Asker(QuicConnectionProtocol):
    def ask(self, authority, path, body):
        self.over = asyncio.get_running_loop().create_future()
        self.http = H3Connection(self._quic)
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", b"POST" if body else b"GET"), (b":scheme", b"https"),
                (b":authority", authority), (b":path", path)]
        if body:
            head.append((b"content-length", b"%d" % len(body)))
        self.http.send_headers(stream, head, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return self.over

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated) and not self.over.done():
            self.over.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
        for said in self.http.handle_event(event) if hasattr(self, "http") else ():
            if isinstance(said, HeadersReceived) and (b":status", b"200") not in said.headers:
                self.over.set_exception(ValueError(str(said.headers)))
            elif isinstance(said, DataReceived):
                os.write(1, said.data)
            if said.stream_ended and not self.over.done():
                self.over.set_result(None)


async def main(port, ca, path, *file):
    body = open(file[0], "rb").read() if file else b""
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="shop.test")
    config.verify_mode = ssl.CERT_REQUIRED
    config.load_verify_locations(ca)
    async with connect("127.0.0.1", int(port), configuration=config, create_protocol=Asker) as asker:
        await asker.ask(f"shop.test:{port}".encode(), path.encode(), body)


asyncio.run(main(*sys.argv[1:]))
