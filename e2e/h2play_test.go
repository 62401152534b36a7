package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// An h2Talk is a connection of a client that speaks HTTP/2 as it likes.
type h2Talk struct {
	net.Conn
	r       *bufio.Reader
	decoder *hpack.Decoder
	section []byte
	streams map[uint32]*h2Said
	last    uint32 // stream that was begun
	pongs   int
	goaway  bool
	code    uint32 // of goaway
	ended   bool
	bytes   int // that came
}

// An h2Said is what the proxy has said on a stream.
type h2Said struct {
	status string
	body   string
	over   bool
	reset  bool
}

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// dialH2 begins a conversation in clear text.
func dialH2(address string, wait time.Duration) (*h2Talk, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return talkH2(conn, wait)
}

// talkH2 begins a conversation on conn.
func talkH2(conn net.Conn, wait time.Duration) (*h2Talk, error) {
	t := &h2Talk{Conn: conn, r: bufio.NewReader(conn), streams: map[uint32]*h2Said{}}
	t.decoder = hpack.NewDecoder(4096, nil)
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	_, err := conn.Write(append([]byte(h2Preface), h2Frame(4, 0, 0, nil)...))
	return t, err
}

// hear takes the next frame.
func (t *h2Talk) hear() error {
	var head [9]byte
	_, err := io.ReadFull(t.r, head[:])
	if err != nil {
		t.ended = true
		return err
	}
	payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(t.r, payload); err != nil {
		t.ended = true
		return err
	}
	t.bytes += len(head) + len(payload)
	id := binary.BigEndian.Uint32(head[5:])
	said := t.streams[id]
	if said == nil {
		said = new(h2Said)
		t.streams[id] = said
	}
	switch kind, flags := head[3], head[4]; kind {
	case 0:
		said.body += string(payload)
		said.over = said.over || flags&1 != 0
		if len(payload) > 0 {
			more := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
			_, _ = t.Write(append(h2Frame(8, 0, 0, more), h2Frame(8, 0, id, more)...)) // it may have ended
		}
	case 1, 9:
		if t.section = append(t.section, payload...); flags&4 == 0 {
			return nil
		}
		fields, err := t.decoder.DecodeFull(t.section)
		t.section = nil
		if err != nil {
			return err
		}
		for _, f := range fields {
			if f.Name == ":status" && f.Value[0] != '1' {
				said.status = f.Value
			}
		}
		said.over = said.over || flags&1 != 0
	case 3:
		said.reset = true
	case 4:
		if flags&1 == 0 {
			_, _ = t.Write(h2Frame(4, 1, 0, nil)) // likewise
		}
	case 6:
		t.pongs += int(flags & 1)
	case 7:
		t.goaway, t.code = true, binary.BigEndian.Uint32(payload[4:])
	}
	return nil
}

// await hears until something is so, or nothing more comes.
func (t *h2Talk) await(wait time.Duration, is func() bool) error {
	if err := t.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	for !is() {
		if err := t.hear(); err != nil {
			return err
		}
	}
	return nil
}

// answered reports whether a stream is over.
func (t *h2Talk) answered(id uint32) bool {
	s := t.streams[id]
	return s != nil && (s.over || s.reset) || t.goaway && t.code != 0
}

// An h2Verdict is how one case went.
type h2Verdict struct {
	*h2Case
	wrong     string // "" if all was as it should be
	through   bool   // a request reached the app that should not have
	malformed bool   // bytes reached the app that are no request
}

// playH2All plays cases and returns a verdict for each.
func playH2All(all []*player, cases []*h2Case) []h2Verdict {
	verdicts := make([]h2Verdict, len(cases))
	next := make(chan int)
	var playing sync.WaitGroup
	for _, p := range all {
		playing.Go(func() {
			for i := range next {
				verdicts[i] = p.playH2(cases[i])
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

// playH2 plays one case, and asks for /next behind it.
func (p *player) playH2(c *h2Case) (v h2Verdict) {
	v.h2Case = c
	log := p.app.begin(new(record))
	talk, err := dialH2(p.address, p.wait)
	if err != nil {
		v.wrong = err.Error()
		return v
	}
	defer talk.Close()
	coder := newH2Coder()
	coder.label = strings.ReplaceAll(c.String(), " ", "-")
	said := p.sayH2(talk, coder, c)
	if talk.ended || talk.goaway {
		talk.Close()
		if talk, err = dialH2(p.address, p.wait); err == nil {
			defer talk.Close()
			coder = newH2Coder()
		}
	}
	coder.label = ""
	if err == nil {
		err = p.nextH2(talk, coder)
	}
	if faults := seenH2(c, log, said, &v); len(faults) > 0 || err != nil {
		v.wrong = strings.Join(append(faults, fmt.Sprint(err)), "; ")
	}
	return v
}

// sayH2 says what a case has to say, and hears what becomes of it, stream by stream.
func (p *player) sayH2(talk *h2Talk, coder *h2Coder, c *h2Case) map[uint32]*h2Said {
	opened := uint32(0)
	for i := range c.steps {
		step := &c.steps[i]
		for range step.times {
			if _, err := talk.Write(coder.bytes(step, p.here)); err != nil {
				break // the proxy has ended it
			}
		}
		if step.isHead && step.kind == 1 {
			opened = max(opened, step.stream)
		}
	}
	talk.last = opened
	_, _ = talk.Write(h2Frame(6, 0, 0, make([]byte, 8))) // likewise
	_ = talk.await(p.wait, func() bool { return talk.pongs > 0 || talk.goaway && talk.code != 0 })
	if !talk.ended && opened > 0 {
		_ = talk.await(p.wait, func() bool { return talk.answered(opened) })
	}
	for id := uint32(1); id < opened; id += 2 {
		if s := talk.streams[id]; !talk.ended && s != nil && s.status != "" {
			_ = talk.await(p.wait, func() bool { return talk.answered(id) })
		}
	}
	return talk.streams
}

// nextH2 wants the proxy to answer a request that is in order.
func (p *player) nextH2(talk *h2Talk, coder *h2Coder) error {
	id := talk.last + 2 - (talk.last+1)%2
	if talk.last == 0 {
		id = 7
	}
	head := h2Step{isHead: true, kind: 1, flags: 5, stream: id, padding: -1, priority: -1, fields: append(append([]string(nil), h2Pseudo["get"][:3]...), ":path: /next")}
	if _, err := talk.Write(coder.bytes(&head, p.here)); err != nil {
		return fmt.Errorf("next: %w", err)
	}
	err := talk.await(p.wait, func() bool { return talk.answered(id) })
	if s := talk.streams[id]; s == nil || s.status != "200" || s.body != "GET /next " {
		return fmt.Errorf("next: %+v: %w", s, errors.Join(err, errors.ErrUnsupported))
	}
	return nil
}

// seenH2 is what was wrong with what the app and the client got.
func seenH2(c *h2Case, log *record, said map[uint32]*h2Said, v *h2Verdict) (faults []string) {
	log.mu.Lock()
	defer log.mu.Unlock()
	v.malformed = len(log.faults) > 0
	for _, fault := range log.faults {
		faults = append(faults, "the app got "+fault)
	}
	whole := 0
	for _, m := range log.messages {
		words := strings.Fields(m.start + " ? ?")
		label := m.all("X-Case")
		if words[1] == "/next" || !m.whole || len(label) > 0 && label[0] != strings.ReplaceAll(c.String(), " ", "-") {
			continue // the latter is of an earlier case, whose client did not wait
		}
		whole++
		if v.through = v.through || c.verdict == "refused" || words[1] == "/hidden"; v.through {
			faults = append(faults, fmt.Sprintf("the app got %q", m.raw))
		}
	}
	first := said[1]
	switch {
	case c.verdict == "passes" && (whole != 1 || first == nil || first.status != "200"):
		faults = append(faults, fmt.Sprintf("the app got %d requests, the client %+v", whole, first))
	case c.verdict == "refused" && first != nil && first.status == "200" && !first.reset:
		faults = append(faults, "it was answered 200")
	}
	return faults
}
