package e2e

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
)

// TestH2ConnectionsPerAddress: a connection has one place of its address whatever it speaks,
// also while it has not said yet which protocol that is, and gives it back at its end.
func TestH2ConnectionsPerAddress(t *testing.T) {
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", strings.Replace(bare, "listen = {", "listen = { h2c = true,", 1)+"[limits]\nconnections_per_address = 2\n")
	h := s.start()
	client := s.goClient(h)
	for range 3 { // all of which but one would be too many beside the next
		resp, err := client.Get("https://shop.test/")
		s.must(err)
		_, err = io.Copy(io.Discard, resp.Body)
		s.must(err)
		resp.Body.Close()
	}
	silent := call(t, "127.0.0.1", h.http, h2Preface[:5])
	if status, _ := call(t, "127.0.0.1", h.http, "").ask(""); status != 0 { // one core accepts in order
		t.Errorf("one too many: status %d", status)
	}
	silent.Close()
	await(t, "the place of who has not said what it speaks", func() bool { return pings(t, h.http) })
	client.CloseIdleConnections()
	await(t, "all places", func() bool {
		one := call(t, "127.0.0.1", h.http, "")
		defer one.Close()
		status, _ := one.ask("")
		return status == 200 && pings(t, h.http)
	})
}

// pings reports whether a new connection that speaks HTTP/2 in clear text is answered.
func pings(t *testing.T, address string) bool {
	t.Helper()
	talk, err := dialH2(address, patience)
	if err != nil {
		return false // refused while it began
	}
	defer talk.Close()
	_, _ = talk.Write(h2Frame(6, 0, 0, make([]byte, 8))) // who is refused has no answer
	return talk.await(patience, func() bool { return talk.pongs > 0 }) == nil
}

// TestH2RatePerAddress: streams count as requests do, and who asks too much keeps the
// connection.
func TestH2RatePerAddress(t *testing.T) {
	const rate = 5
	s := newScene(t)
	s.startBareApp(false)
	s.write("sallyport.toml", twoCores("")+"[limits]\nrate = 5\n")
	h := s.start()
	client := s.goClient(h)
	statuses, connections := map[int]int{}, 0
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			connections++
		}
	}})
	for range 40 * rate {
		req, err := http.NewRequestWithContext(trace, http.MethodGet, "https://shop.test/", nil)
		s.must(err)
		resp, err := client.Do(req)
		s.must(err)
		_, err = io.Copy(io.Discard, resp.Body)
		s.must(err)
		resp.Body.Close()
		statuses[resp.StatusCode]++
		if want := map[bool]string{true: "1"}[resp.StatusCode == 429]; resp.Header.Get("Retry-After") != want {
			t.Fatalf("status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	if statuses[200] < rate || statuses[429] < rate || statuses[200]+statuses[429] != 40*rate || connections != 1 {
		t.Errorf("%v, on %d connections", statuses, connections)
	}
	if len(h.find("request answered", "protocol=HTTP/2", "status=429", "cause=more requests than limits.rate")) == 0 {
		t.Error("no line of a refusal")
	}
}
