package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// keyOf is the private key in a file of certmagic's, and its text.
func (s *scene) keyOf(pattern string) (*ecdsa.PrivateKey, string) {
	s.t.Helper()
	files, err := filepath.Glob(s.path(pattern))
	if err != nil || len(files) != 1 {
		s.t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	text, err := os.ReadFile(files[0])
	s.must(err)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := x509.ParseECPrivateKey(block.Bytes)
		s.must(err)
		return key, string(pem.EncodeToMemory(block))
	}
	s.t.Fatalf("%s: no key", files[0])
	return nil, ""
}

// The key of a site is in the keeper alone, the key of the account in the registrar alone,
// and neither is in a core: after an order, and after handshakes. The same scans find each
// where it has to be.
func TestACMEKeysStayApart(t *testing.T) {
	needRoot(t)
	s, p, h := issuance(t, oneSite, nil)
	p.certified(h, "shop.test", patience)
	for range 50 {
		served(h, "shop.test")
	}
	site, siteText := s.keyOf("state/certificates/certificates*.pem")
	account, accountText := s.keyOf("state/account/*.key")
	for _, c := range []struct {
		what   string
		forms  map[string][]byte
		holder string
		others []string
	}{
		{"site", secrets(t, site, siteText), "sallyport-keeper", []string{"sallyport-core", "sallyport-registrar"}},
		{"account", secrets(t, account, accountText), "sallyport-registrar", []string{"sallyport-core", "sallyport-keeper"}},
	} {
		found := scan(t, named(t, c.holder).pid, c.forms)
		if len(found) == 0 {
			t.Errorf("the scan does not find the %s key in %s", c.what, c.holder)
		}
		for _, other := range c.others {
			if found := scan(t, named(t, other).pid, c.forms); len(found) > 0 {
				t.Errorf("%s has the %s key: %v", other, c.what, found)
			}
		}
		t.Logf("%s key: %s %v, %v none", c.what, c.holder, found, c.others)
	}
	uids := s.powerless()
	if uids["sallyport-core"] == uids["sallyport-registrar"] || uids["sallyport-keeper"] == uids["sallyport-registrar"] {
		t.Errorf("the registrar shares its user: %v", uids)
	}
	if out, code := s.shell("sallyport privs --assert -c sallyport.toml"); code != 0 {
		t.Errorf("privs: %d\n%s", code, out)
	}
}

// From its first to its last system call the keeper opens no socket of the network; the
// registrar, over the same orders, does.
func TestACMEKeeperHasNoNetwork(t *testing.T) {
	needRoot(t)
	needProgram(t, "/usr/bin/strace")
	s := newScene(t)
	p := newPebble(s)
	p.start()
	p.configure(oneSite)
	s.app("gunicorn-sync")
	h := s.start()
	// Both start anew under the tracer's eye: it has their wardens, and follows.
	traces := map[string]string{}
	for _, program := range []string{"sallyport-keeper", "sallyport-registrar"} {
		trace := filepath.Join(t.TempDir(), program)
		warden := parent(t, of(program)[0].pid)
		strace := exec.Command("/usr/bin/strace", "-f", "-qq", "-e", "trace=socket,connect,bind,listen,execveat", "-o", trace, "-p", warden)
		s.must(strace.Start())
		t.Cleanup(func() {
			_ = strace.Process.Signal(syscall.SIGTERM) // it may have ended with what it traced
			_ = strace.Wait()
		})
		await(t, "the tracer", func() bool {
			text, err := os.ReadFile("/proc/" + warden + "/status")
			return err == nil && !strings.Contains(string(text), "TracerPid:\t0\n")
		})
		traces[program] = trace
	}
	h.kill("sallyport-registrar")
	h.kill("sallyport-keeper")
	await(t, "a keeper of which all is seen", func() bool {
		return len(of("sallyport-keeper")) > 0 && len(h.find("certificate obtained")) > 0
	})
	p.certified(h, "shop.test", 3*patience)
	for program, trace := range traces {
		text, err := os.ReadFile(trace)
		s.must(err)
		inet := bytes.Count(text, []byte("socket(AF_INET"))
		if !bytes.Contains(text, []byte("execveat(")) {
			t.Errorf("%s: its start was not seen", program)
		}
		t.Logf("%s: %d sockets of the network, %d calls", program, inet, bytes.Count(text, []byte("\n")))
		switch program {
		case "sallyport-keeper":
			if all := bytes.Count(text, []byte("socket(")); all > 0 {
				t.Errorf("the keeper opens %d sockets:\n%s", all, text)
			}
		default:
			if inet == 0 {
				t.Error("the registrar opens none: the trace shows nothing")
			}
			if n := bytes.Count(text, []byte("listen(")); n > 0 {
				t.Errorf("the registrar listens:\n%s", text)
			}
		}
	}
}

// parent is the pid of the parent of a process.
func parent(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nPPid:\t")
	ppid, _, _ := strings.Cut(rest, "\n")
	return ppid
}
