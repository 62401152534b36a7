package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// parsersEnv is how long TestParsers goes on with damaged requests, such as "8h"; they
// are other ones each time.
const parsersEnv = "SALLYPORT_PARSERS"

// TestParsers gives what went through sallyport to the parsers of real servers, each
// request with another one behind it: a server reads both, and the second as the second,
// or refuses the first. What they refuse that we let through is no harm.
func TestParsers(t *testing.T) {
	passed := passedRequests(t)
	for _, kind := range []string{"gunicorn-gthread", "puma", "node"} {
		t.Run(kind, func(t *testing.T) {
			s := newScene(t)
			s.app(kind)
			refused := 0
			for _, raw := range passed {
				answers, err := s.parsed(raw)
				if err != nil {
					t.Errorf("%q: %v", raw, err)
				} else if answers[0] >= 400 {
					refused++
				}
			}
			t.Logf("%d of %d requests are refused", refused, len(passed))
			const plain, hidden = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", "GET /hidden HTTP/1.1\r\nHost: shop.test\r\n\r\n"
			if _, err := s.parsed(plain + hidden); err == nil {
				t.Error("a hidden request shows in nothing")
			}
			if refused > len(passed)/2 {
				t.Errorf("%d of %d requests are refused: that proves little", refused, len(passed))
			}
		})
	}
}

// everyPlayers is what differs between players and between requests that are alike, in
// heads only: no body of the corpus has it.
var everyPlayers = regexp.MustCompile(`(?i)ws\d\d(\.test)|(X-Request-(?:Id|Start): )[^\r]+`)

// passedRequests plays the corpus, damaged too if that is asked for, and returns what
// reached the app.
func passedRequests(t *testing.T) []string {
	t.Helper()
	passed := map[string]bool{}
	add := func(log *record) {
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, fault := range log.faults {
			t.Errorf("the app got %s", fault)
		}
		for _, m := range log.messages {
			// An upgrade ends HTTP, a request for /next is like the other, and to "head"
			// gunicorn answers as if it were HEAD.
			method, _, _ := strings.Cut(m.start, " ")
			small := method != "HEAD" && strings.EqualFold(method, "HEAD")
			if m.whole && !small && m.all("Upgrade") == nil && !strings.HasPrefix(m.start, "GET /next ") {
				passed[everyPlayers.ReplaceAllString(m.raw, "${2}shop$1")] = true
			}
		}
	}
	t.Run("corpus", func(t *testing.T) { // so that its house is gone before the servers come
		s := newScene(t)
		all := players(t, s.dir, false, patience)
		s.write("sallyport.toml", corpusSites(all, 4, false))
		h := s.start()
		var cases []*corpusCase
		for _, p := range all {
			p.address = h.http
		}
		for _, group := range readCorpus(t) {
			cases = append(cases, group...)
		}
		for _, v := range playAll(all, cases) {
			add(v.log)
		}
		if wish := os.Getenv(parsersEnv); wish != "" {
			during, err := time.ParseDuration(wish)
			s.must(err)
			t.Logf("%d damaged requests", damageAll(all, cases, time.Now().Add(during), add))
		}
	})
	list := make([]string, 0, len(passed))
	for raw := range passed {
		list = append(list, raw)
	}
	slices.Sort(list)
	return list
}

// damageAll sends damaged cases until a time, and returns how many.
func damageAll(all []*player, cases []*corpusCase, until time.Time, add func(*record)) (count int) {
	var playing sync.WaitGroup
	var mu sync.Mutex
	for _, p := range all {
		playing.Go(func() {
			for time.Now().Before(until) {
				var text strings.Builder
				for _, step := range cases[rand.IntN(len(cases))].steps {
					text.WriteString(p.here(step.send))
				}
				log := p.app.begin(new(record))
				p.fling(damaged(text.String()))
				mu.Lock()
				count++
				add(log)
				mu.Unlock()
			}
		})
	}
	playing.Wait()
	return count
}

// damaged is text with one to three bytes of it put out of order.
func damaged(text string) string {
	const misleading = " \t\r\n\x00\x0b:;,.=/?#@-_+0159afAFxhH\x7f\x80\xff"
	b := []byte(text)
	for range 1 + rand.IntN(3) {
		if len(b) == 0 {
			break
		}
		at, other := rand.IntN(len(b)), misleading[rand.IntN(len(misleading))]
		switch rand.IntN(4) {
		case 0:
			b[at] = other
		case 1:
			b = slices.Delete(b, at, at+1)
		case 2:
			b = slices.Insert(b, at, other)
		case 3:
			end := min(len(b), at+1+rand.IntN(40))
			b = slices.Insert(b, at, bytes.Clone(b[at:end])...)
		}
	}
	return string(b)
}

// fling sends text and takes what comes.
func (p *player) fling(text string) {
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(p.wait)) // it is open
	if _, err := io.WriteString(conn, text); err == nil {
		_ = conn.(*net.TCPConn).CloseWrite() // it may be reset by now
	}
	_, _ = io.Copy(io.Discard, conn) // likewise
}

// parsed sends a request and another one behind it to the app of the scene, and returns
// the statuses of the answers; an error if they are not those two.
func (s *scene) parsed(raw string) (statuses []int, err error) {
	conn, err := net.Dial("unix", s.path("app/app.sock"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	const last = "GET /last HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
	r := bufio.NewReader(conn)
	method, _, _ := strings.Cut(raw, " ")
	// One after the other: gunicorn does not look for a second one in what it has read
	// before more comes.
	for i, text := range []string{raw, last} {
		if i == 1 {
			method = "GET"
		}
		_, _ = io.WriteString(conn, text) // what a server refuses it may not read to the end
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			break // the count tells
		}
		statuses = append(statuses, resp.StatusCode)
		var seen struct{ Method, Path string }
		answer, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return statuses, fmt.Errorf("answer %d: %w", i, err)
		case resp.StatusCode >= 400 || method == "HEAD":
		case json.Unmarshal(answer, &seen) != nil || !strings.EqualFold(seen.Method, method) || i == 1 && seen.Path != "/last":
			return statuses, fmt.Errorf("answer %d is %q", i, answer)
		}
	}
	switch _, err := r.ReadByte(); {
	case err == nil:
		return statuses, errors.New("one answer more")
	case len(statuses) == 0:
		return nil, fmt.Errorf("no answer: %w", err)
	case len(statuses) == 1 && statuses[0] < 400:
		return statuses, fmt.Errorf("no second answer: %w", err)
	}
	return statuses, nil
}
