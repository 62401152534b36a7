package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sallyport/e2e"
)

// configuration takes the two addresses and the app's socket.
const configuration = `control = "control.sock"
listen = { http = [%q], https = [%q] }

[[site]]
host = ["localhost", "127.0.0.1"]
tls = { cert = "site.pem", key = "site.key" }
redirect = false
app = "unix:%s"
`

// furnish puts into the folder what the demo needs: a place for the app, a CA,
// a certificate and the configuration. Other users may pass, not write.
func furnish(dir string) error {
	authority, err := e2e.NewAuthority()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cert, secret, err := authority.Issue(key, "localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(configuration, freeOr("127.0.0.1:8080"), freeOr("127.0.0.1:8443"),
		filepath.Join(dir, "app", "app.sock"))
	for _, file := range []struct {
		name, content string
		mode          os.FileMode
	}{
		{"ca.pem", authority.PEM, 0o644},
		{"site.pem", cert, 0o644},
		{"site.key", secret, 0o600},
		{"sallyport.toml", text, 0o644},
	} {
		if err := os.WriteFile(filepath.Join(dir, file.name), []byte(file.content), file.mode); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return rooms(dir)
}

// rooms opens the folder to passers-by and gives the app its own in it.
func rooms(dir string) error {
	app := filepath.Join(dir, "app")
	if err := os.Mkdir(app, 0o755); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(app, nobody, nobody); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// freeOr returns the address, or one of the same host that the kernel chooses
// when somebody else has it.
func freeOr(address string) string {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	listener.Close()
	return address
}

// An entrance is where sallyport listens.
type entrance struct{ http, https string }

// startProxy starts sallyport and waits until it is ready. All it logs goes on
// to stderr.
func startProxy(binary, dir string) (*part, entrance, error) {
	logs, theirs, err := os.Pipe()
	if err != nil {
		return nil, entrance{}, fmt.Errorf("demo: %w", err)
	}
	cmd := exec.Command(binary, "run", "-c", filepath.Join(dir, "sallyport.toml"))
	cmd.Stderr = theirs
	proxy, err := begin(cmd)
	theirs.Close()
	if err != nil {
		return nil, entrance{}, err
	}
	lines := bufio.NewReader(logs)
	for {
		line, err := lines.ReadString('\n')
		fmt.Fprint(os.Stderr, line)
		if err != nil {
			proxy.end()
			return nil, entrance{}, fmt.Errorf("demo: sallyport did not start; the lines above say why")
		}
		if at, is := ready(line); is {
			go passOn(lines)
			return proxy, at, nil
		}
	}
}

// passOn ends when the last process of sallyport has.
func passOn(logs io.Reader) { _, _ = io.Copy(os.Stderr, logs) }

// ready reads the line that says where sallyport listens.
func ready(line string) (entrance, bool) {
	var said struct {
		Message     string
		HTTP, HTTPS []string
	}
	err := json.Unmarshal([]byte(line), &said)
	if err != nil || said.Message != "ready" || len(said.HTTP) == 0 || len(said.HTTPS) == 0 {
		return entrance{}, false
	}
	// The certificate is for 127.0.0.1 too, but a name is what a client sends.
	return entrance{said.HTTP[0], strings.Replace(said.HTTPS[0], "127.0.0.1", "localhost", 1)}, true
}
