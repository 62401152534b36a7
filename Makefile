# sallyport: `make demo` shows it at work, `make test` passes the tests.

GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    = 5s

# Where `make soak` puts clients of HTTP/3 of a newer Debian; a test that is not told says that it skips them.
SALLYPORT_TRIXIE ?= /var/tmp/trixie

.PHONY: build demo test fmt lint unit fuzz e2e denials soak bench clean

# The binaries that are released: static, and the same wherever they are built.
build:
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

# In the foreground until TERM or Ctrl-C.
demo: build
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./e2e/demo
	@exec bin/demo

test:
	@sh e2e/prepare
	@$(MAKE) --no-print-directory lint unit fuzz e2e

fmt:
	@$(GOFUMPT) -w .

lint:
	@unformatted=$$($(GOFUMPT) -l .) && test -z "$$unformatted" || { echo "run make fmt for: $$unformatted"; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...

# Everything but e2e, under the race detector. The packages below cmd start
# processes under ids that are the same for all, so one goes after the other;
# without GORACE each of these processes would sleep for a second at its exit.
# The race detector links cgo, which the jail does not let live: without it, the
# jail's own tables are tested as they are released.
unit:
	go test -race $$(go list ./... | grep -v -e /e2e -e /cmd/)
	GORACE=atexit_sleep_ms=0 go test -race -p 1 ./cmd/...
	go test ./cmd/internal/jail
	go test -run Alloc ./proxy/... ./sockets/loop ./tlsload/... # what the race detector hides

# A little of every fuzz target; a longer search is FUZZTIME=10m make fuzz.
fuzz:
	@sh e2e/fuzz $(FUZZTIME)

# The real binaries with real apps; what needs root says so when it is skipped. Before that, the
# jail, from inside.
e2e: build
	go vet -tags drill ./cmd/...
	go test -count=1 -timeout 10m ./e2e/attack
	SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 13m ./e2e

# The same with builds that die of every system call that the jail refuses: for each new
# release of Go, and whenever a core or keeper learns something.
denials:
	@CGO_ENABLED=0 go build -trimpath -tags drill -ldflags "-X sallyport/cmd/internal/jail.drill=seccomp=kill" -o bin/drill/ ./cmd/...
	SALLYPORT_BIN=$(CURDIR)/bin/drill go test -v -count=1 -timeout 14m ./e2e

# The long runs: the image, built without network (SALLYPORT_PODMAN has flags for podman run), the
# units in a systemd that is booted for them, HTTP/3 with clients of Debian 13, a million requests, fifty
# thousand names, half an hour of everything at once with kills and reloads, and ten minutes of it under the
# race detector.
soak: build
	@sh e2e/prepare soak
	@sh e2e/tree $(SALLYPORT_TRIXIE)
	[ ! -d $(SALLYPORT_TRIXIE) ] || SALLYPORT_TRIXIE=$(SALLYPORT_TRIXIE) SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 5m -run TestH3Clients ./e2e
	SALLYPORT_REQUESTS=1000000 go test -v -count=1 -timeout 30m -run LongRun ./proxy
	SALLYPORT_IMAGE=1 go test -v -count=1 -timeout 10m -run 'TestImage$$' ./e2e
	SALLYPORT_SYSTEMD=1 SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 5m -run TestSystemd ./e2e
	SALLYPORT_TESTSSL=1 SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 5m -run TestTestSSL ./e2e
	SALLYPORT_NAMES=50000 SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 5m -run 'TestNames$$' ./e2e
	SALLYPORT_SOAK=30m SALLYPORT_BIN=$(CURDIR)/bin go test -v -count=1 -timeout 40m -run TestSoak ./e2e
	CGO_ENABLED=1 go build -race -o bin/race/ ./cmd/...
	SALLYPORT_SOAK=10m SALLYPORT_BIN=$(CURDIR)/bin/race go test -v -count=1 -timeout 20m -run TestSoak ./e2e

# Beside other proxies, in about ten minutes. BENCH has flags, such as
# BENCH="-rounds 2 -seconds 1"; BENCH_TREE a newer Debian's root folder.
bench: build
	@sh e2e/bench/prepare
	@go run ./e2e/bench $(BENCH)

clean:
	@rm -rf bin
