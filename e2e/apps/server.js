// The node app of the end-to-end tests; wsgi.py says what it answers. Beyond
// that, /abort ends the connection without an answer, /broken (?length or
// ?chunked) in the middle of one, and whatever comes after an upgrade to
// anything but a WebSocket is sent back; /page is for a browser, which lets what waits go on by /go. It listens on its argument, a socket or
// the number of a descriptor.
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

// The page asks for 200 things, sends 10 MiB, reads an answer that waits for its word, opens a WebSocket,
// and says in the log how that went.
const page = `<!DOCTYPE html><script>(async () => {
  let ok = 0;
  await Promise.all([...Array(200).keys()].map(async (i) => {
    const reply = await fetch("/thing" + i);
    await reply.text();
    ok += reply.ok;
  }));
  const h2 = performance.getEntriesByType("resource").filter((e) => e.name.includes("/thing") && e.nextHopProtocol === "h2").length;
  const sent = Uint8Array.from({ length: 10 << 20 }, (_, i) => i ^ i >> 8 ^ i >> 16);
  const echo = await (await fetch("/echo", { method: "POST", body: sent })).json();
  const sum = [...new Uint8Array(await crypto.subtle.digest("SHA-256", sent))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const answer = (await fetch("/stream?name=browser")).body.pipeThrough(new TextDecoderStream()).getReader();
  let came = (await answer.read()).value;
  await fetch("/go?name=browser");
  for (let next; !(next = await answer.read()).done;) came += next.value;
  const all = "sent=" + (echo.sha256 === sum ? echo.length : "wrong") + "&came=" + came.trim().replaceAll("\\n", "-");
  const socket = new WebSocket("wss://" + location.host + "/ws");
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (e) => fetch("/report?ok=" + ok + "&h2=" + h2 + "&ws=" + e.data + "&" + all);
  socket.onerror = () => fetch("/report?ok=" + ok + "&h2=" + h2 + "&ws=failed&" + all);
})();</script>`;

const app = http.createServer(async (request, reply) => {
  // "//" before a path is a host to URL, and "*" nothing that it knows.
  const url = new URL("http://app" + (request.url[0] === "/" ? request.url : "/"));
  if (url.pathname === "/abort") return request.socket.destroy();
  if (url.pathname === "/broken") return broken(url, request, reply);
  if (url.pathname === "/stream") return stream(url.searchParams, reply);
  let body, kind = "application/json";
  if (url.pathname === "/page") {
    [body, kind] = [page, "text/html"];
  } else if (url.pathname === "/go") {
    fs.writeFileSync(url.searchParams.get("name") + ".go", "");
    [body, kind] = ["gone\n", "text/plain"];
  } else if (url.pathname === "/wait") {
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

// webSocket sends back every frame. The app is its own implementation: frames
// of less than 64 KiB, which is all that the tests send.
function webSocket(request, socket, first) {
  const salted = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(salted).digest("base64");
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
  socket.write(`Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let bytes = first;
  const take = (more) => {
    bytes = Buffer.concat([bytes, more]);
    while (bytes.length >= 6) {
      const short = bytes[1] & 127;
      const [length, at] = short === 126 ? [bytes.readUInt16BE(2), 4] : [short, 2];
      if (bytes.length < at + 4 + length) return;
      const mask = bytes.subarray(at, at + 4);
      const payload = bytes.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4]);
      socket.write(Buffer.concat([Buffer.from([bytes[0], short]), bytes.subarray(2, at), payload]));
      if ((bytes[0] & 15) === 8) return socket.end(); // a close frame, the last one
      bytes = bytes.subarray(at + 4 + length);
    }
  };
  socket.on("data", take);
  take(Buffer.alloc(0));
}

app.on("upgrade", (request, socket, first) => {
  socket.on("error", () => socket.destroy());
  if (request.headers.upgrade === "websocket") return webSocket(request, socket, first);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${request.headers.upgrade}\r\n\r\n`);
  socket.write(first);
  socket.pipe(socket);
});

const place = process.argv[2];
app.listen(/^\d+$/.test(place) ? { fd: Number(place) } : place);
