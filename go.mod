module sallyport

go 1.26.0

require (
	github.com/caddyserver/certmagic v0.25.6 // certificates by ACME: keys and requests in the keeper, the CA in the registrar
	github.com/mholt/acmez/v3 v3.1.7 // what certmagic speaks ACME with: its types, and the certificate of a TLS-ALPN-01 challenge
	github.com/pelletier/go-toml/v2 v2.4.3 // the configuration; keeps the line of every key, and does no I/O at init
	github.com/pires/go-proxyproto v0.15.0 // PROXY headers, versions 1 and 2, with their signatures, lengths and families checked
	github.com/quic-go/qpack v0.6.0 // the field compression of HTTP/3, its decoder alone
	github.com/quic-go/quic-go v0.65.0 // QUIC, for the core alone; HTTP/3 on it is our own
	github.com/rs/zerolog v1.35.1 // the logs of core and keeper, without an allocation per line
	go.uber.org/zap v1.28.0 // the log that certmagic wants to have, and has thrown away
	golang.org/x/net v0.60.0 // HPACK: the field compression of HTTP/2, its decoder alone
	golang.org/x/sys v0.49.0 // system calls
	google.golang.org/grpc v1.83.2 // tests alone: a client and a server of gRPC that are not ours
)

require (
	github.com/caddyserver/zerossl v0.1.6 // indirect; certmagic's, and so all below but two
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/libdns/libdns v1.1.1 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect; zerolog's console form
	github.com/mattn/go-isatty v0.0.20 // indirect; likewise
	github.com/miekg/dns v1.1.73 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap/exp v0.3.0 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260526163538-3dc84a4a5aaa // indirect; grpc's
	google.golang.org/protobuf v1.36.11 // indirect; likewise
)
