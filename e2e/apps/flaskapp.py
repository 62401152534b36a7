"""The Flask app of the end-to-end tests; wsgi.py says what it answers."""
from flask import Flask, Response, request

import wsgi

app = Flask(__name__)


@app.get("/")
def seen():
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string.decode(),
        "fields": wsgi.fields(request.environ),
    }


@app.post("/echo")
def echo():
    return wsgi.echo(request.stream)


@app.get("/stream")
def stream():
    return Response(wsgi.stream(request.query_string.decode()), mimetype="text/plain")
