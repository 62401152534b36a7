// Demo shows sallyport at work on a machine that has nothing to serve yet: it
// starts a small app on a unix socket, makes a throw-away CA, writes a
// configuration, runs the sallyport beside its own executable in front of it
// all, and prints two lines of curl that work. TERM or Ctrl-C ends everything
// and leaves nothing.
//
// # Security
//
// Nothing here is meant for use: the CA is known to nobody, its folder goes
// away. Started by root, the app runs as nobody, as any app should.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "app" {
		fail(serveApp(os.Args[2]))
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	fail(show(stop))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// show runs the demo until a signal comes, or a part of it ends by itself.
func show(stop <-chan os.Signal) error {
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := furnish(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	app, err := startApp(self, filepath.Join(dir, "app"))
	if err != nil {
		return err
	}
	defer app.end()
	proxy, addresses, err := startProxy(filepath.Join(filepath.Dir(self), "sallyport"), dir)
	if err != nil {
		return err
	}
	defer proxy.end()
	fmt.Printf(`
sallyport is in front of a small app. Try, in another terminal:

curl http://%s/
curl --cacert %s https://%s/

Ctrl-C ends it.
`, addresses.http, filepath.Join(dir, "ca.pem"), addresses.https)
	select {
	case <-stop:
		return nil
	case <-app.ended:
		return fmt.Errorf("demo: the app ended")
	case <-proxy.ended:
		return fmt.Errorf("demo: sallyport ended")
	}
}
