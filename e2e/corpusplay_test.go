package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// corpusPlayers is how many cases are played at a time, each with a site and an app
// of its own.
const corpusPlayers = 16

// A player plays cases, one after the other, through one site of a proxy.
type player struct {
	address string // of the proxy
	site    string // "ws03": what stands for shop in the cases
	app     recorder
	peer    bool // not ours: what it refuses, it may refuse in its own way
	wait    time.Duration
}

// A verdict is how one case went.
type verdict struct {
	*corpusCase
	wrong     string // "" if all was as it should be
	through   bool   // a request reached the app that should not have
	malformed bool   // bytes reached the app that are no request
	log       *record
}

// players makes the apps of a proxy that is about to be started, in a folder.
func players(t *testing.T, folder string, peer bool, wait time.Duration) []*player {
	t.Helper()
	all := make([]*player, corpusPlayers)
	for i := range all {
		all[i] = &player{site: fmt.Sprintf("ws%02d", i), peer: peer, wait: wait}
		listener, err := all[i].app.listen(folder + "/" + all[i].site + ".sock")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
	}
	return all
}

// playAll plays cases and returns a verdict for each.
func playAll(all []*player, cases []*corpusCase) []verdict {
	verdicts := make([]verdict, len(cases))
	next := make(chan int)
	var playing sync.WaitGroup
	for _, p := range all {
		playing.Go(func() {
			for i := range next {
				verdicts[i] = p.play(cases[i])
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	playing.Wait()
	return verdicts
}

// here writes the player's site for shop, in any case. The lengths are the same.
func (p *player) here(text string) string {
	return strings.NewReplacer("shop", p.site, "SHOP", strings.ToUpper(p.site), "Shop", "W"+p.site[1:]).Replace(text)
}

// play plays one case.
func (p *player) play(c *corpusCase) verdict {
	v := verdict{corpusCase: c}
	v.log = p.app.begin(&record{reply: p.here(c.reply), early: c.early, keep: c.keep})
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		v.wrong = err.Error()
		return v
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	open, err := p.converse(c, conn, r)
	if err == nil {
		if !open {
			if conn, err = net.Dial("tcp", p.address); err == nil {
				defer conn.Close()
				r = bufio.NewReader(conn)
			}
		}
		if err == nil {
			err = p.next(conn, r)
		}
	}
	seenErr := p.compareSeen(c, v.log, &v)
	if err = errors.Join(err, seenErr); err != nil {
		v.wrong = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return v
}

// converse sends what the client sends and compares what it gets. It reports whether
// the connection can go on.
func (p *player) converse(c *corpusCase, conn net.Conn, r *bufio.Reader) (open bool, err error) {
	open = true
	for _, step := range c.steps {
		if err := conn.SetDeadline(time.Now().Add(p.wait)); err != nil {
			return false, err
		}
		switch {
		case step.end:
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil && !p.peer {
				return false, err
			}
		case step.answer == nil:
			// An answer may come, and the connection end, before all is sent.
			_, _ = io.WriteString(conn, p.here(step.send))
		case p.peer && p.refusal(step.answer):
			return false, p.awaitRefusal(r, step.answer)
		default:
			if open, err = p.awaitAnswer(r, step.answer); err != nil {
				return false, err
			}
		}
	}
	return open, nil
}

// refusal reports whether w is an answer of the proxy's own making.
func (p *player) refusal(w *wanted) bool { return w.start == "nothing" || w.start >= "400" }

// awaitRefusal takes any way in which others refuse: another status, or none.
func (p *player) awaitRefusal(r *bufio.Reader, want *wanted) error {
	for {
		m := new(wireMessage)
		if err := m.readHead(r); err != nil {
			return nil // ended, or it still waits: the app's record tells
		}
		status := statusOfLine(m.start)
		if status >= "200" && status < "400" {
			return fmt.Errorf("answer %q, want %s", m.start, want.start)
		}
		if status >= "200" {
			return nil
		}
	}
}

func statusOfLine(line string) string {
	if len(line) < len("HTTP/1.1 200") || !strings.HasPrefix(line, "HTTP/1.") {
		return "no status"
	}
	return line[9:12]
}

// awaitAnswer reads an answer and compares it.
func (p *player) awaitAnswer(r *bufio.Reader, want *wanted) (open bool, err error) {
	m := new(wireMessage)
	err = m.readHead(r)
	if want.start == "nothing" {
		if m.start != "" || err == nil || isTimeout(err) {
			return false, fmt.Errorf("answer %q %w, want none", m.start, err)
		}
		return false, nil
	}
	if err != nil && want.cut && !isTimeout(err) {
		return false, nil // the reset has overtaken the head
	}
	if err != nil {
		return false, fmt.Errorf("no answer: %w", err)
	}
	status := statusOfLine(m.start)
	if want.interim && strings.HasPrefix(status, "1") {
		final := *want
		final.interim = false
		return p.awaitAnswer(r, &final)
	}
	if !p.peer && (len(m.start) < 13 || m.start[12] != ' ') {
		// "A server MUST send the space [...] even when the reason-phrase is absent" RFC 9112, section 4
		return false, fmt.Errorf("answer %q has no place for a reason", m.start)
	}
	if status != want.start {
		return false, fmt.Errorf("answer %q, want %s", m.start, want.start)
	}
	toEnd := status == "101" || len(m.all("Content-Length"))+len(m.all("Transfer-Encoding")) == 0
	if status >= "200" && status != "204" && status != "304" && !want.bodiless || status == "101" {
		err = m.readBody(r, toEnd)
	} else {
		m.whole, toEnd = true, false
	}
	switch {
	case want.cut:
		if m.whole || isTimeout(err) {
			return false, fmt.Errorf("the answer looks whole: %q %w", m.body, err)
		}
		return false, nil
	case err != nil:
		return false, fmt.Errorf("answer broken off: %w", err)
	}
	if err := m.compare(want, p.here, p.peer); err != nil {
		return false, fmt.Errorf("answer: %w", err)
	}
	closing := slices.ContainsFunc(m.all("Connection"), func(v string) bool { return strings.EqualFold(v, "close") })
	if want.close && !p.peer && !closing && !toEnd {
		return false, fmt.Errorf("the answer does not say close: %q", m.fields)
	}
	if closing || toEnd || want.close {
		if want.close || !p.peer {
			if _, err := r.ReadByte(); err == nil || isTimeout(err) {
				return false, fmt.Errorf("the connection goes on: %w", err)
			}
		}
		if !want.close && !p.peer && !toEnd {
			return false, errors.New("the connection was closed")
		}
		return false, nil
	}
	return true, nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// compare says in what m is not as wanted.
func (m *wireMessage) compare(want *wanted, here func(string) string, peer bool) error {
	for _, field := range want.fields {
		if peer && strings.Contains(field, "sallyport") {
			continue // our name
		}
		name, value, _ := strings.Cut(here(field), ":")
		text, err := corpusBytes(strings.TrimSpace(value) + `\`)
		if err != nil {
			return err
		}
		if values := m.all(name); !slices.Contains(values, text) {
			return fmt.Errorf("%s is %q, want %q", name, values, text)
		}
	}
	for _, name := range want.absent {
		if values := m.all(name); values != nil {
			return fmt.Errorf("%s is %q, want none", name, values)
		}
	}
	if want.body != nil && m.body != here(*want.body) {
		return fmt.Errorf("body is %q, want %q", m.body, here(*want.body))
	}
	if want.trailer != nil && !slices.Equal(m.trailer, want.trailer) {
		return fmt.Errorf("trailer is %q, want %q", m.trailer, want.trailer)
	}
	return nil
}

// next asks for /next and has to get the answer to that.
func (p *player) next(conn net.Conn, r *bufio.Reader) error {
	if err := conn.SetDeadline(time.Now().Add(p.wait)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, p.here("GET /next HTTP/1.1\r\nHost: shop.test\r\n\r\n")); err != nil {
		return fmt.Errorf("next request: %w", err)
	}
	m := new(wireMessage)
	err := m.readHead(r)
	if err == nil {
		err = m.readBody(r, false)
	}
	if err != nil || statusOfLine(m.start) != "200" || m.body != "GET /next " {
		return fmt.Errorf("next request: out of step: %q %q %w", m.start, m.body, err)
	}
	return nil
}

// compareSeen holds what reached the app against what should have.
func (p *player) compareSeen(c *corpusCase, log *record, v *verdict) error {
	until(p.wait, func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.open == 0
	})
	log.mu.Lock()
	defer log.mu.Unlock()
	v.malformed = len(log.faults) > 0
	var seen []*wireMessage
	for _, m := range log.messages {
		if strings.HasPrefix(m.start, "GET /next ") {
			continue
		}
		if m.whole || v.malformed || len(c.seen) == 0 {
			seen = append(seen, m)
		}
	}
	if v.malformed {
		return fmt.Errorf("the app got %q", log.faults)
	}
	for _, want := range c.seen {
		if want.cut {
			continue
		}
		start := p.here(want.start)
		i := slices.IndexFunc(seen, func(m *wireMessage) bool { return p.sameStart(m.start, start) })
		if i != 0 {
			return fmt.Errorf("the app did not get %q but %q", start, starts(seen))
		}
		if err := seen[0].compare(want, p.here, p.peer); err != nil {
			return fmt.Errorf("the app got %s: %w", start, err)
		}
		seen = seen[1:]
	}
	if p.peer && len(c.seen) == 0 {
		seen = slices.DeleteFunc(seen, func(m *wireMessage) bool { return !m.whole }) // broken off is refused
	}
	if len(seen) > 0 {
		v.through = true
		return fmt.Errorf("the app also got %q", starts(seen))
	}
	return nil
}

// sameStart compares request lines. Others may talk HTTP/1.0 to an app.
func (p *player) sameStart(got, want string) bool {
	return got == want || p.peer && strings.TrimSuffix(got, "0") == strings.TrimSuffix(want, "1")
}

func starts(messages []*wireMessage) (lines []string) {
	for _, m := range messages {
		lines = append(lines, m.start)
	}
	return lines
}

// corpusSites is the configuration of a house with a site for every player, whose app
// keeps so many idle connections.
func corpusSites(all []*player, keep int, buffer bool) string {
	var text strings.Builder
	text.WriteString("listen = { http = [\"127.0.0.1:0\"], https = [] }\n")
	for _, p := range all {
		fmt.Fprintf(&text, "[[site]]\nhost = \"%[1]s.test\"\napp = \"%[1]s\"\n[app.%[1]s]\nsocket = \"unix:{dir}/%[1]s.sock\"\nkeepalive = %[2]d\nbuffer = %[3]v\n", p.site, keep, buffer)
	}
	return text.String()
}

// TestCorpus plays the corpus on sallyport: no hidden request, no malformed byte, whether
// or not connections to apps are used again, and whether or not bodies wait until they are
// complete.
func TestCorpus(t *testing.T) {
	groups := readCorpus(t)
	count := 0
	for _, cases := range groups {
		count += len(cases)
	}
	if count < 300 {
		t.Errorf("only %d cases", count)
	}
	for name, keep := range map[string]int{"closed": 0, "kept": 4, "buffered": 4} {
		groups, buffer := groups, name == "buffered"
		if buffer {
			groups = withoutLive(groups)
		}
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			all := players(t, s.dir, false, patience)
			s.write("sallyport.toml", corpusSites(all, keep, buffer))
			h := s.start()
			for _, p := range all {
				p.address = h.http
			}
			for name, cases := range groups {
				t.Run(name, func(t *testing.T) {
					for _, v := range playAll(all, cases) {
						if v.wrong != "" {
							t.Errorf("%s: %s", v, v.wrong)
						}
					}
				})
			}
			h.refusedOnce(t, groups)
			connections := int64(0)
			for _, p := range all {
				connections += p.app.connections.Load()
			}
			if keep > 0 && connections > int64(count) {
				t.Errorf("%d connections to apps, for %d cases", connections, count)
			}
		})
	}
}

// withoutLive leaves out the cases in which the app has to see a body as the client sends it:
// it answers before the end, or sees chunks or a trailer.
func withoutLive(groups map[string][]*corpusCase) map[string][]*corpusCase {
	rest := map[string][]*corpusCase{}
	for name, cases := range groups {
		rest[name] = slices.DeleteFunc(slices.Clone(cases), func(c *corpusCase) bool {
			return c.early || slices.ContainsFunc(c.seen, func(w *wanted) bool {
				return len(w.trailer) > 0 || slices.Contains(w.fields, "Transfer-Encoding: chunked")
			})
		})
	}
	return rest
}

// refusedOnce: each answer of ours that refuses is one line of the log, with its cause.
func (h *house) refusedOnce(t *testing.T, groups map[string][]*corpusCase) {
	t.Helper()
	want := map[string]int{} // by status
	for _, cases := range groups {
		for _, c := range cases {
			for _, step := range c.steps {
				if step.answer != nil && step.answer.start >= "400" && step.answer.start != "nothing" && !strings.Contains(c.reply, " "+step.answer.start+" ") {
					want[step.answer.start]++
				}
			}
		}
	}
	logged := func() map[string]int {
		got := map[string]int{}
		for _, l := range slices.Concat(h.find("request refused", "cause=*"), h.find("request answered", "cause=*")) {
			if status := fmt.Sprint(l.facts["status"]); status >= "400" {
				got[status]++
			}
		}
		return got
	}
	if !until(patience, func() bool { return maps.Equal(logged(), want) }) {
		t.Errorf("refusals in the log, by status: %v, and clients got %v", logged(), want)
	}
}
