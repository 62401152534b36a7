package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startLimit is how long a proxy may take to answer its first request, and
// stopLimit how long it may take to end.
const (
	startLimit = 10 * time.Second
	stopLimit  = 5 * time.Second
)

// A child is a process of the benchmark: the app, a proxy, or wrk.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone
}

// adopt makes the benchmark the parent of whatever loses its own: nobody else
// may be there to take away what a proxy leaves when it ends.
func adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("bench: child subreaper: %w", err)
	}
	return nil
}

// begin starts a process in a session of its own: Ctrl-C on a terminal is for
// the benchmark, and what it leaves behind can be found. If the benchmark is
// killed it ends too, unless it has changed its user since, as h2o and haproxy do.
func begin(cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	c := &child{cmd, make(chan struct{})}
	go c.reap()
	return c, nil
}

// reap ends with the process.
func (c *child) reap() {
	_ = c.cmd.Wait() // what matters of how it ended is in ProcessState
	close(c.ended)
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the process and everything that came of it.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // gone already is fine
	deadline := time.Now().Add(stopLimit)
	for {
		all, err := processes()
		if err != nil {
			return err
		}
		left := 0
		for _, s := range tree(all, c.pid()) {
			if s.state == 'Z' {
				if s.parent == os.Getpid() && s.pid != c.pid() {
					_, _ = syscall.Wait4(s.pid, nil, syscall.WNOHANG, nil) // an orphan, see adopt
				}
				continue
			}
			left++
			if time.Now().After(deadline) {
				_ = syscall.Kill(s.pid, syscall.SIGKILL) // it may end by itself just now
			}
		}
		if left == 0 {
			<-c.ended
			return nil
		}
		if time.Now().After(deadline.Add(stopLimit)) {
			return fmt.Errorf("bench: %s: %d processes survive SIGKILL", c.cmd.Path, left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A house is a proxy at work.
type house struct {
	*child
	peer    peer
	setting setting
	app     string // the app's socket
}

// start runs a peer in front of an app, and waits until it answers on both of
// its addresses.
func (b *bench) start(ctx context.Context, p peer, app string, w work) (*house, error) {
	dir, err := os.MkdirTemp(b.dir, p.name+"-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := setting{
		Dir: dir, File: filepath.Join(dir, p.file), App: app, Root: os.Getuid() == 0, QUIC: w.quic,
		Cert: filepath.Join(b.dir, "cert.pem"), Key: filepath.Join(b.dir, "key.pem"), Pair: filepath.Join(b.dir, "pair.pem"),
	}
	if w.log {
		s.Log = filepath.Join(dir, "access.log")
	}
	if s.HTTP, s.HTTPS, s.H2C, err = freePorts(); err != nil {
		return nil, err
	}
	text, h, err := fill(b.templates, p.file, s)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.File, text, 0o600); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	output, err := os.Create(filepath.Join(dir, "output.log"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer output.Close()
	argv := append(append([]string{}, p.argv...), h.run...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), h.env...)
	cmd.Stdout, cmd.Stderr = output, output
	c, err := begin(cmd)
	if err != nil {
		return nil, err
	}
	started := &house{child: c, peer: p, setting: s, app: app}
	if err := started.await(ctx, b.tls()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, tail(output.Name())), c.stop())
	}
	return started, nil
}

// await returns when the house answers, plain and over TLS.
func (h *house) await(ctx context.Context, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, config := range []*tls.Config{nil, secure} {
		for {
			err := h.askOnce(ctx, config)
			if err == nil {
				break
			}
			select {
			case <-h.ended:
				return fmt.Errorf("bench: %s has ended: %v", h.peer.name, h.cmd.ProcessState)
			case <-ctx.Done():
				return fmt.Errorf("bench: %s does not answer: %w", h.peer.name, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// freePorts returns two addresses that nobody listens on at the moment.
func freePorts() (http, https, h2c string, err error) {
	var at [3]string
	for i := range at {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", "", fmt.Errorf("bench: %w", err)
		}
		defer listener.Close()
		at[i] = listener.Addr().String()
	}
	return at[0], at[1], at[2], nil
}

// tail is the end of a file, for people.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}
