// The node app of the end-to-end tests; wsgi.py says what it answers. Beyond
// that it echoes whatever comes after an upgrade, /abort ends the connection
// without an answer, and /broken (?length or ?chunked) in the middle of one.
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");

async function meet(query) {
  const name = query.get("name");
  fs.writeFileSync(name + ".here", "");
  for (let i = 0; i < 2000; i++) {
    if (fs.existsSync(name + ".go")) return "done\n";
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return "nobody came\n";
}

async function echo(request) {
  const digest = crypto.createHash("sha256");
  let length = 0;
  for await (const chunk of request) {
    digest.update(chunk);
    length += chunk.length;
  }
  return { length, sha256: digest.digest("hex") };
}

async function stream(query, reply) {
  reply.writeHead(200, { "Content-Type": "text/plain" });
  reply.write("one\n");
  if ((await meet(query)) !== "done\n") reply.write("nobody came\n");
  reply.write("two\n");
  reply.end("three\n");
}

function broken(url, request, reply) {
  reply.writeHead(200, url.search === "?length" ? { "Content-Length": 100 } : {});
  reply.write("half");
  setTimeout(() => request.socket.destroy(), 50); // the first half is on its way
}

const app = http.createServer(async (request, reply) => {
  const url = new URL(request.url, "http://app");
  if (url.pathname === "/abort") return request.socket.destroy();
  if (url.pathname === "/broken") return broken(url, request, reply);
  if (url.pathname === "/stream") return stream(url.searchParams, reply);
  let body, kind = "application/json";
  if (url.pathname === "/wait") {
    [body, kind] = [await meet(url.searchParams), "text/plain"];
  } else if (url.pathname === "/echo") {
    body = JSON.stringify(await echo(request));
  } else {
    const seen = { method: request.method, path: url.pathname, query: url.search.slice(1), fields: request.headers };
    body = JSON.stringify(seen);
  }
  reply.writeHead(200, { "Content-Type": kind, "Content-Length": Buffer.byteLength(body) });
  reply.end(request.method === "HEAD" ? undefined : body);
});

app.on("upgrade", (request, socket, first) => {
  socket.on("error", () => socket.destroy());
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${request.headers.upgrade}\r\n\r\n`);
  socket.write(first);
  socket.pipe(socket);
});

app.listen(process.argv[2]);
