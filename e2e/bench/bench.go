package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"sallyport/e2e"
)

// A bench is one run of the benchmark.
type bench struct {
	options
	dir       string // what is written while it runs; gone afterwards
	wrkPath   string
	templates *template.Template
	peers     []peer
	works     []work
	roots     *x509.CertPool
}

// run measures everything that was asked for, and writes the results.
func run(ctx context.Context, o options) error {
	if err := adopt(); err != nil {
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	begun := time.Now()
	m, err := b.machine()
	if err != nil {
		return err
	}
	r := results{Machine: m}
	for _, w := range b.works {
		since := time.Now()
		figures, err := b.work(ctx, w)
		if err != nil {
			return err
		}
		r.Figures = append(r.Figures, figures...)
		fmt.Fprintf(os.Stderr, "\n%s, %s (took %.0f s)\n%s", w.title, w.unit, time.Since(since).Seconds(), lines(figures))
	}
	r.Machine.Minutes = time.Since(begun).Minutes()
	fmt.Println(r.table())
	if o.out == "" {
		return nil
	}
	return r.write(o.out)
}

// newBench finds the peers and makes the folder with a certificate.
func newBench(o options) (*bench, error) {
	t, err := templates()
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, templates: t, wrkPath: find("wrk", o.bin)}
	if b.works, err = chooseWorks(o.only); err != nil {
		return nil, err
	}
	found, absent, err := findPeers(t, o.bin, o.tree)
	if err != nil {
		return nil, err
	}
	if b.peers, err = choosePeers(found, o.peers); err != nil {
		return nil, err
	}
	if o.peers == nil && len(absent) > 0 {
		fmt.Fprintf(os.Stderr, "not installed: %s\n", strings.Join(absent, " "))
	}
	if b.wrkPath == "" {
		return nil, errors.New("bench: wrk is not installed: apt-get install wrk")
	}
	if b.dir, err = os.MkdirTemp("", "sallyport-bench-"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := b.furnish(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// furnish puts a certificate into the folder, through which other users may pass.
func (b *bench) furnish() error {
	authority, err := e2e.NewAuthority()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	cert, secret, err := authority.Issue(key, host, "127.0.0.1")
	if err != nil {
		return err
	}
	b.roots = x509.NewCertPool()
	b.roots.AddCert(authority.Cert)
	for name, content := range map[string]string{
		"root.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Cert.Raw})),
		"cert.pem": cert, "key.pem": secret, "pair.pem": cert + secret, "openssl.cnf": ciphers,
	} {
		if err := os.WriteFile(b.path(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// turn is how long a peer's turn takes, with what comes before and after.
func (b *bench) turn() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

// tls is the TLS side of the benchmark's own client.
func (b *bench) tls() *tls.Config {
	return &tls.Config{RootCAs: b.roots, ServerName: host, MinVersion: tls.VersionTLS13}
}

// startApp starts an app on a socket of its own.
func (b *bench) startApp(keep bool) (*child, string, error) {
	mode := "closes"
	if keep {
		mode = "keep"
	}
	// A folder of its own, as apps have it: what is in one with other sockets, cores of ours
	// come to by the dialer.
	if err := os.MkdirAll(b.path(mode), 0o755); err != nil {
		return nil, "", err
	}
	socket := b.path(mode + "/app.sock")
	_ = os.Remove(socket) // of the app before, if there was one
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		return nil, "", fmt.Errorf("bench: %w", err)
	}
	listener.SetUnlinkOnClose(false) // the app goes on listening
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return nil, "", fmt.Errorf("bench: %w", err)
	}
	defer file.Close()
	if err := os.Chmod(socket, 0o666); err != nil {
		return nil, "", fmt.Errorf("bench: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", "app", mode)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{file}
	c, err := begin(cmd)
	return c, socket, err
}

// work measures all peers at one work. A peer that does not start or fails is
// reported and left out: the others' figures are none the worse for it.
func (b *bench) work(ctx context.Context, w work) (figures []figure, err error) {
	app, socket, err := b.startApp(w.keep)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, app.stop()) }()
	houses := b.startAll(ctx, w, socket)
	defer func() { err = errors.Join(err, stopAll(houses)) }()
	samples := map[string][]sample{}
	for round := range w.rounds(b.rounds) {
		for _, h := range order(houses, round) {
			s, err := w.measure(ctx, b, h)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("bench: ended: %w", ctx.Err())
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s, %s, round %d: %v\n", w.name, h.peer.name, round+1, err)
				continue
			}
			samples[h.peer.name] = append(samples[h.peer.name], s)
		}
	}
	return compare(w, b.peers, samples), nil
}

// startAll starts the peers that take part in a work, all at once.
func (b *bench) startAll(ctx context.Context, w work, app string) []*house {
	started := make([]*house, len(b.peers))
	var wait sync.WaitGroup
	for i, p := range b.peers {
		if !p.takesPart(w) {
			continue
		}
		wait.Go(func() {
			h, err := b.start(ctx, p, app, w)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			started[i] = h
		})
	}
	wait.Wait()
	return slices.DeleteFunc(started, func(h *house) bool { return h == nil })
}

// stopAll ends all houses at the same time, as some take their time.
func stopAll(houses []*house) error {
	ended := make(chan error, len(houses))
	for _, h := range houses {
		go func() { ended <- errors.Join(h.stop(), os.RemoveAll(h.setting.Dir)) }()
	}
	var failed error
	for range houses {
		failed = errors.Join(failed, <-ended)
	}
	return failed
}

func (w work) rounds(asked int) int {
	if w.once {
		return 1
	}
	return asked
}

// order turns a list round by one more place in every round, and the other way
// about in every second one: nobody always comes first, or after the same peer.
func order[T any](list []T, round int) []T {
	if len(list) == 0 {
		return nil
	}
	at := round % len(list)
	turned := append(slices.Clone(list[at:]), list[:at]...)
	if round%2 == 1 {
		slices.Reverse(turned)
	}
	return turned
}

func names(list []work) []string {
	var all []string
	for _, w := range list {
		all = append(all, w.name)
	}
	return all
}

// chooseWorks keeps the works with these names; without any, all that need not be asked for.
func chooseWorks(only []string) ([]work, error) {
	all := works()
	if only == nil {
		return slices.DeleteFunc(all, func(w work) bool { return w.asked }), nil
	}
	for _, name := range only {
		if !slices.Contains(names(all), name) {
			return nil, fmt.Errorf("bench: there is no work %s, but %s", name, strings.Join(names(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(w work) bool { return !slices.Contains(only, w.name) }), nil
}
