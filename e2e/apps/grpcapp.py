"""A gRPC app on the socket that is its argument; messages are bytes. e2e/grpc_test.go calls it."""
import signal
import sys
import threading
from concurrent import futures

import grpc


def echo(request, context):
    said = dict(context.invocation_metadata())
    context.set_trailing_metadata((("seen", said.get("x-said", "")), ("for", said.get("x-forwarded-for", ""))))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100%")


def wait(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    open("left.here", "w").close()
    return request


def join(requests, context):
    return b"".join(requests)


def repeat(request, context):
    for _ in range(100):
        yield request


def talk(requests, context):
    yield from requests
    context.abort(grpc.StatusCode.ALREADY_EXISTS, "at the end")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Talk", {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}),))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(2))
server.wait_for_termination()
