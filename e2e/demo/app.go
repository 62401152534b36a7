package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// nobody is the user of the app when root starts the demo.
const nobody = 65534

// serveApp is the app, a process of its own: it answers on a unix socket and
// is no more than its user.
func serveApp(socket string) error {
	if os.Getuid() == 0 {
		if err := becomeNobody(); err != nil {
			return err
		}
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	// Connecting to a socket takes the right to write to it, and the core is
	// another user.
	if err := os.Chmod(socket, 0o666); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return http.Serve(listener, http.HandlerFunc(greet))
}

func greet(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello from uid %d behind sallyport.\n%s %s\n", os.Getuid(), r.Method, r.URL)
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id"} {
		fmt.Fprintf(w, "%s: %s\n", name, r.Header.Get(name))
	}
}

func becomeNobody() error {
	for _, drop := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(nobody) },
		func() error { return syscall.Setuid(nobody) },
	} {
		if err := drop(); err != nil {
			return fmt.Errorf("demo: become uid %d: %w", nobody, err)
		}
	}
	return nil
}

// A part is a process of the demo.
type part struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
}

// begin starts a part in a process group of its own: Ctrl-C on a terminal is
// for the demo, which then ends its parts in order.
func begin(cmd *exec.Cmd) (*part, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	p := &part{cmd, make(chan struct{})}
	go p.reap()
	return p, nil
}

// reap ends with the process.
func (p *part) reap() {
	_ = p.cmd.Wait() // how it ended is of no use to a demo
	close(p.ended)
}

// end stops the part and waits until it is gone.
func (p *part) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already is fine
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second): // a little more than it takes to drain
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// startApp starts the app in a folder of its own and waits for its socket.
func startApp(self, dir string) (*part, error) {
	socket := dir + "/app.sock"
	cmd := exec.Command(self, "app", socket)
	cmd.Stderr = os.Stderr
	app, err := begin(cmd)
	if err != nil {
		return nil, err
	}
	for range 500 {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return app, nil
		}
		select {
		case <-app.ended:
			return nil, fmt.Errorf("demo: the app ended before it was there")
		case <-time.After(10 * time.Millisecond):
		}
	}
	app.end()
	return nil, fmt.Errorf("demo: the app is not there after 5 s")
}
