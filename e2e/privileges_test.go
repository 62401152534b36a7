package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrivileges looks at every thread of every process of ours in steady
// state, after requests went through all of them.
func TestPrivileges(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.shop("gunicorn-gthread")
	s.answered("https://shop.test/")
	uids := s.powerless()
	if uids["sallyport-core"] == uids["sallyport-keeper"] {
		t.Errorf("core and keeper are one user: %v", uids)
	}
}

// TestPlainUser runs the same house as a user without any privilege.
func TestPlainUser(t *testing.T) {
	uid := plainUser()
	s := newSceneFor(t, uid)
	h := s.shop("gunicorn-gthread")
	for _, scheme := range []string{"http", "https"} {
		if body := s.answered(scheme + "://shop.test/hello"); !strings.Contains(body, `"path": "/hello"`) {
			t.Errorf("%s: %s", scheme, body)
		}
	}
	for name, found := range s.powerless() {
		if found != fmt.Sprint(uid) {
			t.Errorf("%s is user %s, not %d", name, found, uid)
		}
	}
	if code := h.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// powerless fails the test when a thread of ours could do more than its user
// may, and returns the user of each kind of process.
func (s *scene) powerless() map[string]string {
	s.t.Helper()
	return s.powerlessOf(ours())
}

// powerlessOf is powerless for processes that were found already.
func (s *scene) powerlessOf(all []process) map[string]string {
	s.t.Helper()
	uids := map[string]string{}
	for _, p := range all {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid))
		s.must(err)
		for _, thread := range threads {
			facts, err := status(thread)
			if err != nil {
				continue // this thread has just ended
			}
			uids[p.name] = s.checkThread(p, facts)
		}
	}
	for _, name := range []string{"sallyport", "sallyport-core", "sallyport-keeper"} {
		if uids[name] == "" {
			s.t.Errorf("no %s is running: %v", name, all)
		}
	}
	return uids
}

func (s *scene) checkThread(p process, facts map[string]string) (uid string) {
	s.t.Helper()
	for _, kind := range []string{"Uid", "Gid"} {
		ids := strings.Fields(facts[kind])
		if len(ids) != 4 || ids[0] == "0" || ids[1] != ids[0] || ids[2] != ids[0] || ids[3] != ids[0] {
			s.t.Errorf("%v: %s: %s", p, kind, facts[kind])
		}
	}
	want := map[string]string{"NoNewPrivs": "1"}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		want[set] = "0000000000000000"
	}
	if s.uid == 0 {
		want["Groups"] = ""
		want["CapBnd"] = "0000000000000000" // takes CAP_SETPCAP to clear
	}
	if s.inherits {
		delete(want, "CapInh")
	}
	for name, value := range want {
		if facts[name] != value {
			s.t.Errorf("%v: %s: %q, want %q", p, name, facts[name], value)
		}
	}
	uid, _, _ = strings.Cut(facts["Uid"], " ")
	return uid
}
