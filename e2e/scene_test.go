package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is the account of the apps, and of houses that a plain user starts.
const nobody = 65534

// six is the smallest file that shows everything: one app over HTTP and HTTPS,
// on ports that the kernel chooses.
const six = `listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "unix:{dir}/app/app.sock"
`

// A scene is a folder with everything one test needs: configuration,
// certificates, apps, and what curl is to know.
type scene struct {
	t   *testing.T
	dir string
	uid int // who starts the house
	ca  *Authority
	env []string // of its commands, beside what all have

	confined *syscall.SysProcAttr // of the next command; nil: none

	inherits bool // its start could not clear what is inheritable
}

// newScene makes a scene whose houses are started by the user of the tests.
func newScene(t *testing.T) *scene { return newSceneFor(t, os.Getuid()) }

// newSceneFor makes a scene whose houses are started by another user, which
// needs root.
func newSceneFor(t *testing.T, uid int) *scene {
	t.Helper()
	if uid != os.Getuid() {
		needRoot(t)
	}
	dir, err := os.MkdirTemp("", "sallyport-scene-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, dir: dir, uid: uid, ca: ca}
	s.must(os.Chmod(dir, 0o755)) // t.TempDir is 0700, and no core could reach an app in it
	s.must(os.Chown(dir, uid, uid))
	s.write("ca.pem", s.ca.PEM)
	return s
}

// plainUser is a user without privileges: the one of the tests, unless that is root.
func plainUser() int {
	if uid := os.Getuid(); uid != 0 {
		return uid
	}
	return nobody
}

// needRoot skips a test that cannot say anything without root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: this needs root; run `make test` as root")
	}
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// write makes a private file of the user who starts the house. "{dir}" in the
// text stands for the scene's folder.
func (s *scene) write(name, text string) {
	s.t.Helper()
	text = strings.ReplaceAll(text, "{dir}", s.dir)
	s.must(os.WriteFile(s.path(name), []byte(text), 0o600))
	s.must(os.Chown(s.path(name), s.uid, s.uid))
}

// certificate writes NAME.pem and NAME.key, issued by the scene's authority.
func (s *scene) certificate(name string, key crypto.Signer, hosts ...string) {
	s.t.Helper()
	cert, secret, err := s.ca.Issue(key, hosts...)
	s.must(err)
	s.write(name+".pem", cert)
	s.write(name+".key", secret)
}

// p256 makes a key of the usual kind.
func p256(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// client is the TLS side of a client that trusts the scene's authority. It
// keeps no sessions: every handshake is a full one.
func (s *scene) client(host string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Cert)
	return &tls.Config{RootCAs: roots, ServerName: host}
}

// as lets a command run as the user of the scene.
func (s *scene) as(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv(binEnv) + ":/usr/bin:/bin", "HOME=" + s.dir, "CURL_HOME=" + s.dir}
	cmd.Env = append(cmd.Env, s.env...)
	if s.uid != os.Getuid() {
		who := &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	}
	if s.confined != nil {
		cmd.SysProcAttr = s.confined
	}
	return cmd
}

// shell runs one line by sh, with our binaries and curl in its PATH, and
// returns all it printed and its exit code.
func (s *scene) shell(commandLine string) (string, int) {
	s.t.Helper()
	sh := s.as(exec.Command("/bin/sh", "-c", commandLine))
	sh.WaitDelay = time.Second
	out, err := sh.CombinedOutput()
	if sh.ProcessState == nil {
		s.t.Fatalf("%s: %v", commandLine, err)
	}
	return string(out), sh.ProcessState.ExitCode()
}

// curlrc lets curl use the plain URLs of an operator: every host on port 80 and
// 443 is a listener of the house. Heads go to the file head.
func (s *scene) curlrc(h *house) {
	s.t.Helper()
	text := "silent\nshow-error\nmax-time = 20\ncacert = {dir}/ca.pem\ndump-header = head\n"
	if h.http != "" {
		text += fmt.Sprintf("connect-to = \":80:%s\"\n", h.http)
	}
	if h.https != "" {
		text += fmt.Sprintf("connect-to = \":443:%s\"\n", h.https)
	}
	s.write(".curlrc", text)
}

// shop starts an app of some kind and a house in front of it.
func (s *scene) shop(kind string) *house {
	s.t.Helper()
	s.certificate("shop", p256(s.t), "shop.test")
	s.write("sallyport.toml", six)
	s.app(kind)
	return s.start()
}

// big writes the file 10MiB: no two of its pages are alike.
func (s *scene) big() {
	content := make([]byte, 10<<20)
	for i := range content {
		content[i] = byte(i ^ i>>8 ^ i>>16)
	}
	s.must(os.WriteFile(s.path("10MiB"), content, 0o644))
	sum := sha256.Sum256(content)
	s.must(os.WriteFile(s.path("10MiB.sha256"), []byte(hex.EncodeToString(sum[:])), 0o644))
}
