# The Rack app of the end-to-end tests; wsgi.py says what it answers.
require "./answers"

run lambda { |env|
  path, query = env["PATH_INFO"], env["QUERY_STRING"]
  next [200, { "Content-Type" => "text/plain" }, Answers.stream(query)] if path == "/stream"
  next [200, { "Content-Type" => "text/event-stream" }, Answers.stream(query)] if path == "/events"

  if path == "/hijack" # the head is Puma's, the body goes to the socket
    body = lambda { |io| Answers.stream(query).each { |event| io.write(event) }; io.close }
    next [200, { "Content-Type" => "text/event-stream", "rack.hijack" => body }, []]
  end
  if path == "/seized" # all of it does
    io = env["rack.hijack"].call
    io.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    Answers.stream(query).each { |event| io.write(event) }
    io.close
    next [200, {}, []]
  end

  kind = "application/json"
  body = case path
         when "/wait" then kind = "text/plain"; Answers.meet(query)
         when "/echo" then Answers.echo(env["rack.input"])
         else Answers.seen(env)
         end
  head = { "Content-Type" => kind, "Content-Length" => body.bytesize.to_s }
  [200, head, env["REQUEST_METHOD"] == "HEAD" ? [] : [body]]
}
