module sallyport

go 1.26.0

require (
	github.com/pelletier/go-toml/v2 v2.4.3 // the configuration; keeps the line of every key, and does no I/O at init
	github.com/pires/go-proxyproto v0.15.0 // PROXY headers, versions 1 and 2, with their signatures, lengths and families checked
	github.com/rs/zerolog v1.35.1 // the logs of core and keeper, without an allocation per line
	golang.org/x/net v0.60.0 // HPACK: the field compression of HTTP/2, its decoder alone
	golang.org/x/sys v0.49.0 // system calls
)

require (
	github.com/mattn/go-colorable v0.1.14 // indirect; zerolog's console form
	github.com/mattn/go-isatty v0.0.20 // indirect; likewise
)
