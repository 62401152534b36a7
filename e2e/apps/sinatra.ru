# The Sinatra app of the end-to-end tests; wsgi.py says what it answers.
require "sinatra/base"
require "./answers"

class Shop < Sinatra::Base
  get("/") { Answers.seen(env) }
  post("/echo") { Answers.echo(request.body) }

  get("/stream") do
    content_type "text/plain"
    Answers.stream(request.query_string)
  end
end

run Shop
