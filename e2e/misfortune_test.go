package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The load while processes are killed: a few clients, each with one request at
// a time on a connection of its own, until told to stop.
const (
	clients   = 4
	loadMax   = 60 * time.Second
	kills     = 5
	between   = 200              // requests from one kill to the next
	clientMax = 15 * time.Second // a handshake may wait for a new keeper
)

// An attempt is one connection, handshake, request and answer.
type attempt struct {
	begun, ended time.Time
	err          error // nil when the answer was whole
}

// A load is what its clients have met.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	attempts []attempt
}

// loadOn puts clients to work on the https listener of a house, until finish or
// the end of the test, and for loadMax at most.
func (s *scene) loadOn(h *house) *load {
	until, stop := context.WithTimeout(s.t.Context(), loadMax)
	l := &load{stop: stop}
	for range clients {
		l.done.Add(1)
		go l.client(until, h.https, s.client("shop.test"))
	}
	return l
}

// client ends with its context.
func (l *load) client(until context.Context, address string, client *tls.Config) {
	defer l.done.Done()
	for until.Err() == nil {
		begun := time.Now()
		err := request(address, client)
		l.mu.Lock()
		l.attempts = append(l.attempts, attempt{begun, time.Now(), err})
		l.mu.Unlock()
	}
}

func request(address string, client *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: clientMax}, "tcp", address, client)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(clientMax)); err != nil {
		return err
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		err = fmt.Errorf("answer %.60q", answer)
	}
	return err
}

// count says how many attempts have ended so far.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.attempts)
}

// finish stops the clients and returns all attempts and the failed ones.
func (l *load) finish() (all int, failed []attempt) {
	l.stop()
	l.done.Wait()
	for _, a := range l.attempts {
		if a.err != nil {
			failed = append(failed, a)
		}
	}
	return len(l.attempts), failed
}

// killUnderLoad kills the one process of this name several times, each time
// when its successor has answered, and returns when it did.
func killUnderLoad(t *testing.T, name string, l *load) (killed []time.Time) {
	t.Helper()
	for range kills {
		enough := l.count() + between
		await(t, "requests before a kill", func() bool { return l.count() >= enough })
		victim := named(t, name)
		killed = append(killed, time.Now())
		victim.kill()
		await(t, "a new "+name, func() bool { return named(t, name).pid != victim.pid })
	}
	enough := l.count() + between
	await(t, "requests after the last kill", func() bool { return l.count() >= enough })
	return killed
}

// TestKillKeeper shows that a keeper's death fails no handshake: the core asks
// its successor again.
func TestKillKeeper(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	l := s.loadOn(h)
	killUnderLoad(t, "sallyport-keeper", l)
	all, failed := l.finish()
	t.Logf("keeper killed %d times under %d handshakes: %d failed", kills, all, len(failed))
	for _, a := range failed {
		t.Errorf("failed after %v: %v", a.ended.Sub(a.begun), a.err)
	}
}

// TestKillCore shows that a core's death fails only what was in flight in it:
// the listeners are the warden's, and no connection is refused.
func TestKillCore(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	l := s.loadOn(h)
	killed := killUnderLoad(t, "sallyport-core", l)
	all, failed := l.finish()
	t.Logf("core killed %d times under %d requests of %d clients: %d failed", kills, all, clients, len(failed))
	if len(failed) > kills*clients {
		t.Errorf("%d failed; no more than %d can have been in flight", len(failed), kills*clients)
	}
	for _, a := range failed {
		if errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", a.err)
		}
		if !during(killed, a) {
			t.Errorf("failed without a kill between its begin and its end, %v later: %v", a.ended.Sub(a.begun), a.err)
		}
	}
}

// during says whether one of the moments was within an attempt.
func during(moments []time.Time, a attempt) bool {
	for _, m := range moments {
		if !m.Before(a.begun) && !m.After(a.ended) {
			return true
		}
	}
	return false
}

// TestKillMain shows that nothing survives the main process: no process of
// ours, no bound port.
func TestKillMain(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	s.answered("https://shop.test/")
	begun := time.Now()
	h.signal(syscall.SIGKILL)
	nothing := func() bool { return len(ours()) == 0 && refused(h.http) && refused(h.https) }
	if !until(time.Second, nothing) {
		t.Errorf("after 1 s: %v, http refused: %v, https refused: %v", ours(), refused(h.http), refused(h.https))
	}
	t.Logf("nothing left after %v", time.Since(begun).Round(time.Millisecond))
}

// TestDrain shows that TERM closes the door at once and lets the guests finish.
func TestDrain(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	answers := make(chan error, 2)
	for _, scheme := range []string{"http", "https"} {
		go s.fetch(scheme+"://shop.test/wait?name="+scheme, answers)
		s.arrived(scheme)
	}
	h.signal(syscall.SIGTERM)
	await(t, "closed listeners", func() bool { return refused(h.http) && refused(h.https) })
	if h.gone() {
		t.Fatal("the main process ended before its requests")
	}
	s.release("http")
	s.release("https")
	for range 2 {
		if err := <-answers; err != nil {
			t.Error("a request in flight failed:", err)
		}
	}
	if code := h.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// fetch ends with its curl.
func (s *scene) fetch(url string, outcome chan<- error) {
	outcome <- s.curl("--fail", "-o", "/dev/null", url).Run()
}

// TestSecondSignal shows that an impatient operator is obeyed.
func TestSecondSignal(t *testing.T) {
	s := newScene(t)
	h := s.shop("gunicorn-gthread")
	curl := s.curl("http://shop.test/wait?name=slow")
	s.must(curl.Start())
	s.arrived("slow")
	h.signal(syscall.SIGINT)
	await(t, "closed listeners", func() bool { return refused(h.http) })
	h.signal(syscall.SIGINT)
	if !until(time.Second, func() bool { return len(ours()) == 0 }) {
		t.Errorf("1 s after the second signal: %v", ours())
	}
	if err := curl.Wait(); err == nil {
		t.Error("the request in flight was answered all the same")
	}
}
