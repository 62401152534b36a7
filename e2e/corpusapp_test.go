package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A wireMessage is a request or an answer as it stood on the wire.
type wireMessage struct {
	start   string
	fields  []string // "Name: value"
	body    string
	trailer []string
	whole   bool // to the last byte of its body
	raw     string
}

// errMalformed is wrapped by what is wrong with a message that no reader should have
// to make sense of.
var errMalformed = errors.New("malformed")

// readHead reads a start line and fields as strictly as RFC 9112 lets a recipient.
func (m *wireMessage) readHead(r *bufio.Reader) (err error) {
	if m.start, err = strictLine(r); err != nil {
		return err
	}
	m.fields, err = strictFields(r)
	return err
}

func strictLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("%w: line %q", errMalformed, line)
	}
	return text, nil
}

func strictFields(r *bufio.Reader) (fields []string, err error) {
	for {
		line, err := strictLine(r)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") != "" {
			return nil, fmt.Errorf("%w: field %q", errMalformed, line)
		}
		fields = append(fields, name+": "+strings.Trim(value, " \t"))
	}
}

// all are the values of a field.
func (m *wireMessage) all(name string) (values []string) {
	for _, field := range m.fields {
		if key, value, _ := strings.Cut(field, ": "); strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	return values
}

// readBody reads what the head announces; toEnd is for an answer that announces nothing.
func (m *wireMessage) readBody(r *bufio.Reader, toEnd bool) (err error) {
	lengths, codings := m.all("Content-Length"), m.all("Transfer-Encoding")
	switch {
	case len(lengths) > 1 || len(codings) > 1 || len(lengths)+len(codings) > 1:
		return fmt.Errorf("%w: framed by %q and %q", errMalformed, lengths, codings)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 32)
		if err != nil || lengths[0][0] == '+' {
			return fmt.Errorf("%w: length %q", errMalformed, lengths[0])
		}
		return m.take(r, int64(n))
	case len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return fmt.Errorf("%w: coding %q", errMalformed, codings[0])
	case len(codings) == 1:
		return m.readChunks(r)
	case toEnd:
		all, err := io.ReadAll(r)
		m.body, m.whole = string(all), err == nil
		return err
	}
	m.whole = true
	return nil
}

// take reads the last n bytes of a body.
func (m *wireMessage) take(r *bufio.Reader, n int64) error {
	piece := make([]byte, n)
	got, err := io.ReadFull(r, piece)
	m.body += string(piece[:got])
	m.whole = err == nil
	return err
}

func (m *wireMessage) readChunks(r *bufio.Reader) error {
	for {
		line, err := strictLine(r)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil {
			return fmt.Errorf("%w: chunk %q", errMalformed, line)
		}
		if n == 0 {
			m.trailer, err = strictFields(r)
			m.whole = err == nil
			return err
		}
		err = m.take(r, int64(n))
		m.whole = false
		if err != nil {
			return err
		}
		if line, err = strictLine(r); err != nil || line != "" {
			return errors.Join(err, errMalformed)
		}
	}
}

// A recorder is the app of the corpus: it answers what it understands, and keeps all
// that reached it, case by case.
type recorder struct {
	connections atomic.Int64

	mu  sync.Mutex
	log *record // of the case that is played; guarded by mu
}

// A record is what reached the app in one case.
type record struct {
	reply string // to its first request; "" for the usual
	early bool   // as soon as the app has the head
	keep  bool   // the connection goes on behind it

	mu       sync.Mutex
	messages []*wireMessage
	faults   []string // malformed messages
	open     int      // messages that have begun and not ended
	replied  bool
}

// begin begins the record of a case.
func (a *recorder) begin(log *record) *record {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = log
	return log
}

func (a *recorder) current() *record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log
}

// listen serves on a unix socket that any user may connect to, until it is closed.
func (a *recorder) listen(socket string) (net.Listener, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	go a.accept(listener)
	return listener, os.Chmod(socket, 0o777)
}

// accept ends when its listener is closed.
func (a *recorder) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		a.connections.Add(1)
		go a.serve(conn)
	}
}

// serve ends when the proxy ends the connection, or the reply of a case says so.
func (a *recorder) serve(conn net.Conn) {
	defer conn.Close()
	var heard bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &heard))
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		log := a.current()
		if log == nil || !log.answer(conn, r, &heard) {
			return
		}
	}
}

// answer reads one request and answers it. It reports whether another may follow. heard
// is what r has read from conn.
func (log *record) answer(conn net.Conn, r *bufio.Reader, heard *bytes.Buffer) bool {
	log.mu.Lock()
	log.open++
	log.mu.Unlock()
	m := new(wireMessage)
	err := m.readHead(r)
	if err == nil {
		err = strictRequest(m)
	}
	scripted := false
	if words := strings.Fields(m.start); err == nil && !strings.HasPrefix(words[1], "/next") {
		log.mu.Lock()
		scripted = log.reply != "" && !log.replied
		log.replied = log.replied || scripted
		log.mu.Unlock()
	}
	if scripted && log.early {
		_, _ = io.WriteString(conn, log.reply) // the proxy may have left
		_ = conn.(*net.UnixConn).CloseWrite()  // likewise
	}
	if err == nil {
		err = m.readBody(r, false)
	}
	m.raw = string(heard.Next(heard.Len() - r.Buffered()))
	log.mu.Lock()
	defer log.mu.Unlock()
	log.open--
	log.messages = append(log.messages, m)
	if errors.Is(err, errMalformed) {
		log.faults = append(log.faults, err.Error())
	}
	if err != nil {
		return false
	}
	if scripted {
		if !log.early {
			_, _ = io.WriteString(conn, log.reply)
		}
		return log.keep
	}
	method, target, _ := strings.Cut(strings.TrimSuffix(m.start, " HTTP/1.1"), " ")
	body := method + " " + target + " " + m.body
	length := "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	if method == "HEAD" {
		body = ""
	}
	_, err = io.WriteString(conn, "HTTP/1.1 200 OK"+length+body)
	return err == nil
}

// strictRequest says what no proxy should have passed on.
func strictRequest(m *wireMessage) error {
	words := strings.Split(m.start, " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" && words[2] != "HTTP/1.0" || words[0] == "" || words[1] == "" {
		return fmt.Errorf("%w: request line %q", errMalformed, m.start)
	}
	for _, c := range []byte(words[1]) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return fmt.Errorf("%w: target %q", errMalformed, words[1])
		}
	}
	if hosts := m.all("Host"); len(hosts) != 1 {
		return fmt.Errorf("%w: hosts %q", errMalformed, hosts)
	}
	for _, field := range m.fields {
		for _, c := range []byte(field) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return fmt.Errorf("%w: field %q", errMalformed, field)
			}
		}
	}
	return nil
}
