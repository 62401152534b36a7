# The Rack app of the end-to-end tests; wsgi.py says what it answers.
require "digest"
require "json"

def meet(query)
  name = query[/name=(\w+)/, 1]
  File.write("#{name}.here", "")
  2000.times do
    return "done\n" if File.exist?("#{name}.go")
    sleep 0.005
  end
  "nobody came\n"
end

def fields(env)
  found = env.select { |k, _| k.start_with?("HTTP_") }.to_h { |k, v| [k[5..].downcase.tr("_", "-"), v] }
  %w[CONTENT_LENGTH CONTENT_TYPE].each { |k| found[k.downcase.tr("_", "-")] = env[k] if env[k] }
  found
end

def echo(body)
  digest, length = Digest::SHA256.new, 0
  while (chunk = body.read(65536))
    digest << chunk
    length += chunk.bytesize
  end
  { length: length, sha256: digest.hexdigest }
end

def stream(query)
  Enumerator.new do |chunks|
    chunks << "one\n"
    chunks << "nobody came\n" if meet(query) != "done\n"
    chunks << "two\n" << "three\n"
  end
end

run lambda { |env|
  path, query = env["PATH_INFO"], env["QUERY_STRING"]
  next [200, { "Content-Type" => "text/plain" }, stream(query)] if path == "/stream"

  kind = "application/json"
  body = case path
         when "/wait" then kind = "text/plain"; meet(query)
         when "/echo" then JSON.generate(echo(env["rack.input"]))
         else JSON.generate(method: env["REQUEST_METHOD"], path: path, query: query, fields: fields(env))
         end
  head = { "Content-Type" => kind, "Content-Length" => body.bytesize.to_s }
  [200, head, env["REQUEST_METHOD"] == "HEAD" ? [] : [body]]
}
