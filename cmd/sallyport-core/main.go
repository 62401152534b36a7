// Sallyport-core answers the internet.
//
// It is started by a warden and by nobody else: its only argument names the
// descriptors that it finds open, as package sockets gives them.
//
//	sallyport-core --gifts plan,ready,link,http0,https0
//
// It accepts connections on the listeners it was given, speaks HTTP to clients
// and forwards their requests to the apps of its plan. When it can answer, it
// writes one byte to ready. TERM lets it drain: idle connections are closed,
// exchanges end, for at most drain.requests. More of them change nothing: a
// supervisor that signals every process of a service is no second opinion. Its
// warden kills it when it has to end at once.
//
// # Exit status
//
// 0 drained; 1 it could not start, and says why on stderr; 4 the link to the keeper is
// lost, which no other core will have either.
//
// # Security
//
// This process is expected to be taken over. It holds no private key: signatures
// for handshakes come from the keeper, over link, which signs nothing else. It has
// no path of a configuration, a certificate or a log; no capability, and no way to
// gain one. What it can still do: answer for the sites while it runs, read what
// clients and apps say to each other through it, and ask the keeper for
// signatures of TLS handshakes. And, until the layers that close them are in
// package jail: what any program of its uid can do with files, programs and sockets.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/sockets"
	"sallyport/tlsload"
)

func main() {
	if err := jail.Seal(jail.Core); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := proxy.NewLogWriter(os.Stderr)
	log := newLog(lines)
	err := run(os.Args[1:], log)
	if err != nil {
		log.Error().Err(err).Msg("core failed")
	}
	_ = lines.Close() // waits a second at most, and has nobody to tell
	switch {
	case errors.Is(err, tlsload.ErrClosed):
		os.Exit(4)
	case err != nil:
		os.Exit(1)
	}
}

// run is the life of a core: inherit, wire, serve, drain.
func run(args []string, log zerolog.Logger) error {
	gifts, plan, err := inherit(args)
	if err != nil {
		return err
	}
	level, err := zerolog.ParseLevel(plan.Log.Level)
	if err != nil {
		return err
	}
	log = log.Level(level)
	shareProcessors(plan.Workers)
	front, err := newFront(plan, gifts, log)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE) // the main warden's business
	if err := front.open(); err != nil {
		return err
	}
	if err := sayReady(gifts); err != nil {
		return err
	}
	select {
	case <-signals:
		drain(front, plan.DrainRequests, log)
		return nil
	case <-front.lost():
		drain(front, plan.DrainRequests, log)
		return tlsload.ErrClosed
	}
}

// shareProcessors keeps one of several cores from running on more processors than are
// its part: cores in each other's way cost more than one that waits for a moment. One
// alone has what Go gives it, which follows the limits of its cgroup.
func shareProcessors(workers int) {
	if workers > 1 {
		runtime.GOMAXPROCS(part(runtime.GOMAXPROCS(0), workers))
	}
}

// part is how many of all one of some workers has: rounded up, and so at least one.
func part(all, workers int) int { return (all + workers - 1) / workers }

// inherit takes what the warden gave.
func inherit(args []string) (sockets.Gifts, *conf.Core, error) {
	if len(args) != 2 || args[0] != "--gifts" {
		return nil, nil, errors.New("sallyport-core is started by sallyport: run that instead")
	}
	gifts, err := sockets.TakeGifts(args[1])
	if err != nil {
		return nil, nil, err
	}
	fd, err := gifts.FD("plan")
	if err != nil {
		return nil, nil, err
	}
	text, err := sockets.ReadSealed(fd)
	if err != nil {
		return nil, nil, err
	}
	plan := new(conf.Core)
	if err := json.Unmarshal(text, plan); err != nil {
		return nil, nil, fmt.Errorf("core: plan: %w", err)
	}
	return gifts, plan, nil
}

func sayReady(gifts sockets.Gifts) error {
	fd, err := gifts.FD("ready")
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("r")); err != nil {
		return fmt.Errorf("core: ready pipe: %w", err)
	}
	return unix.Close(fd)
}

// drain ends the service: when the last exchange is over, or after limit.
func drain(front *front, limit time.Duration, log zerolog.Logger) {
	log.Debug().Int64("connections", front.count.Load()).Msg("core draining")
	select {
	case <-front.drained():
	case <-time.After(limit):
		log.Warn().Dur("limit", limit).Int64("connections", front.count.Load()).Msg("core ended with exchanges in flight")
	}
}

// newLog is the log of a core: JSON lines, or something to look at on a terminal.
func newLog(lines *proxy.LogWriter) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil {
		console := zerolog.ConsoleWriter{Out: lines, TimeFormat: "15:04:05.000"}
		return zerolog.New(console).With().Timestamp().Logger()
	}
	return zerolog.New(lines).With().Timestamp().Logger()
}
