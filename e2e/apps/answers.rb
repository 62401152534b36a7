# What the Ruby apps of the end-to-end tests answer; wsgi.py says when.
require "digest/sha2" # now: made on first use, by two threads at once, it is an error (500)
require "json"

module Answers
  module_function

  def seen(env)
    JSON.generate(method: env["REQUEST_METHOD"], path: env["PATH_INFO"], query: env["QUERY_STRING"], fields: fields(env))
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
    JSON.generate(length: length, sha256: digest.hexdigest)
  end

  def meet(query)
    name = query[/name=(\w+)/, 1]
    File.write("#{name}.here", "")
    2000.times do
      return "done\n" if File.exist?("#{name}.go")
      sleep 0.005
    end
    "nobody came\n"
  end

  def stream(query)
    Enumerator.new do |chunks|
      chunks << "one\n"
      chunks << "nobody came\n" if meet(query) != "done\n"
      chunks << "two\n" << "three\n"
    end
  end
end
