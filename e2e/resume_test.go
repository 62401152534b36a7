package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// handshakes are what status --json says of them.
type handshakes struct {
	Handshakes, Resumed, Failed int
}

// shaken is what status says of handshakes: of all, and of each core by its pid.
func (s *scene) shaken() (all handshakes, cores map[int]handshakes) {
	s.t.Helper()
	out, code := s.shell("sallyport status -c sallyport.toml --json")
	var r struct {
		TLS       handshakes
		Processes []struct {
			PID  int
			Core *struct {
				Generation int
				TLS        handshakes
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		s.t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	cores = map[int]handshakes{}
	for _, p := range r.Processes {
		if p.Core != nil {
			cores[p.PID] = p.Core.TLS
		}
	}
	return r.TLS, cores
}

// TestResumption: what one core has begun another one resumes, and so does one of another
// plan, until the keeper dies. openssl has the sessions.
func TestResumption(t *testing.T) {
	needProgram(t, "/usr/bin/openssl")
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", "workers = 2\n"+six)
	s.app("gunicorn-sync")
	h := s.start()
	connect := "openssl s_client -connect " + h.https + " -servername shop.test -CAfile ca.pem -verify_return_error "
	// TLS 1.3 has the ticket behind the handshake: an answer is waited for.
	const ask = `(printf 'GET /hello HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n'; sleep 0.3) | `
	versions := []string{"tls1_2", "tls1_3"}
	begin := func() {
		for _, version := range versions {
			out, code := s.shell(ask + connect + "-" + version + " -sess_out " + version + ".pem 2>&1")
			if code != 0 || !strings.Contains(out, "New, TLSv1") || !strings.Contains(out, "/hello") {
				t.Fatalf("%s: exit code %d, %s", version, code, out)
			}
		}
	}
	begin()
	const each = 16
	resumed := func(word string) {
		t.Helper()
		for _, version := range versions {
			out, _ := s.shell(fmt.Sprintf("for i in $(seq %d); do %s -%s -sess_in %s.pem </dev/null 2>&1 & done; wait", each, connect, version, version))
			if got := strings.Count(out, word+", TLSv1"); got != each {
				t.Errorf("%s: %d of %d are %s\n%s", version, got, each, word, out)
			}
		}
	}
	both := func() bool {
		_, before := s.shaken()
		resumed("Reused")
		_, cores := s.shaken()
		least := 1
		for pid, core := range cores {
			least = min(least, core.Resumed-before[pid].Resumed)
		}
		return len(cores) == 2 && least > 0
	}
	await(t, "resumptions with both cores", both)
	before, _ := s.shaken()
	if before.Resumed%each != 0 || before.Handshakes != before.Resumed+2 {
		t.Errorf("counted: %+v", before)
	}

	text := strings.Replace(s.read("sallyport.toml"), "redirect = false", "redirect = true", 1)
	s.write("sallyport.toml", text)
	s.reread(2)
	await(t, "the end of the old cores", func() bool { _, cores := s.shaken(); return len(cores) == 2 })
	resumed("Reused")
	after, cores := s.shaken()
	sum := 0
	for _, core := range cores {
		sum += core.Resumed
	}
	if after.Resumed != before.Resumed+2*each || after.Handshakes != before.Handshakes+2*each || sum != 2*each {
		t.Errorf("after a reload: %+v, by cores %+v; before: %+v", after, cores, before)
	}
	if out, code := s.shell("sallyport status -c sallyport.toml"); code != 0 || !strings.Contains(out, "HANDSHAKES") {
		t.Errorf("exit code %d, %s", code, out)
	}

	// Another keeper has other keys, and gives them to all cores at once.
	keeper := named(t, "sallyport-keeper")
	s.must(syscall.Kill(keeper.pid, syscall.SIGKILL))
	await(t, "void tickets", func() bool {
		out, _ := s.shell(connect + "-tls1_3 -sess_in tls1_3.pem </dev/null 2>&1")
		return strings.Contains(out, "New, TLSv1.3")
	})
	begin()
	await(t, "resumptions with both cores", both)
}
