package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A kind is what clients of the soak do, again and again.
type kind struct {
	name string
	run  func(*errand) error // fails if it met anything but what it should
}

func kinds() []kind {
	return []kind{
		{"ask", func(e *errand) error { return e.ask("shop.test") }},
		{"sync", func(e *errand) error { return e.ask("sync.test") }},
		{"post", func(e *errand) error { return e.post(false) }},
		{"chunks", func(e *errand) error { return e.post(true) }},
		{"big", func(e *errand) error { return e.big(2<<20, 2<<20) }},
		{"drip", (*errand).drip},
		{"frames", (*errand).frames},
		{"trickle", (*errand).trickle},
		{"leave", func(e *errand) error { return e.big(8<<20, 100<<10) }},
		{"leave-upload", (*errand).leaveUpload},
	}
}

// An errand is a client of the soak. It asks a plain listener or that of TLS, and keeps
// its connection where it may.
type errand struct {
	k      *soak
	secure bool
	token  string // of the request

	conn    net.Conn // nil: none
	answers *bufio.Reader
}

func (k *soak) errand(client int) *errand { return &errand{k: k, secure: client%2 > 0} }

// reach connects, unless there is a connection.
func (e *errand) reach() (err error) {
	if e.conn == nil {
		if e.secure {
			e.conn, err = tls.DialWithDialer(&net.Dialer{Timeout: clientMax}, "tcp", e.k.h.https, e.k.client("shop.test"))
		} else {
			e.conn, err = net.DialTimeout("tcp", e.k.h.http, clientMax)
		}
		if err != nil {
			e.conn = nil
			return err
		}
		e.answers = bufio.NewReader(e.conn)
	}
	return e.conn.SetDeadline(time.Now().Add(3 * clientMax))
}

func (e *errand) leave() {
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
	}
}

// heard reads an answer to its end and passes its body to check.
func (e *errand) heard(check func(body []byte) error) error {
	answer, err := http.ReadResponse(e.answers, nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("body, after %d bytes: %w", len(body), err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer: %s, %.200q", answer.Status, body)
	}
	if answer.Close {
		e.leave()
	}
	return check(body)
}

func (e *errand) ask(host string) error {
	if _, err := fmt.Fprintf(e.conn, "GET /?%s HTTP/1.1\r\nHost: %s\r\n\r\n", e.token, host); err != nil {
		return err
	}
	return e.heard(func(body []byte) error {
		var facts struct{ Query string }
		if err := json.Unmarshal(body, &facts); err != nil || facts.Query != e.token {
			return fmt.Errorf("the answer of another: %.200q, %w", body, err)
		}
		return nil
	})
}

// post sends a body of up to 200 KiB and wants its digest.
func (e *errand) post(chunked bool) error {
	body := bytes.Repeat([]byte(e.token), 1+int(e.token[len(e.token)-1]-'0')*1000)
	head := fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if chunked {
		half := len(body) / 2
		head = fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
			half, body[:half], len(body)-half, body[half:])
	}
	if _, err := io.WriteString(e.conn, head); err != nil {
		return err
	}
	return e.digested(body)
}

func (e *errand) digested(body []byte) error {
	sum := sha256.Sum256(body)
	return e.heard(func(answer []byte) error {
		var facts struct {
			Length int
			SHA256 string
		}
		if err := json.Unmarshal(answer, &facts); err != nil || facts.Length != len(body) || facts.SHA256 != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%d bytes arrived as %.200q, %w", len(body), answer, err)
		}
		return nil
	})
}

// big reads a part of a long answer, and leaves if that is not all of it.
func (e *errand) big(size, part int) error {
	if _, err := fmt.Fprintf(e.conn, "GET /big?token=%s&bytes=%d HTTP/1.1\r\nHost: shop.test\r\n\r\n", e.token, size); err != nil {
		return err
	}
	answer, err := http.ReadResponse(e.answers, nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	body := make([]byte, part)
	if n, err := io.ReadFull(answer.Body, body); err != nil {
		return fmt.Errorf("body, after %d bytes: %w", n, err)
	}
	line := e.token + "\n"
	if !bytes.Equal(body, bytes.Repeat([]byte(line), 1+part/len(line))[:part]) {
		return errors.New("the body of another")
	}
	if part < size || answer.Close {
		e.leave()
	}
	return nil
}

// drip reads an answer that comes little by little.
func (e *errand) drip() error {
	if _, err := io.WriteString(e.conn, "GET /drip?drops=5 HTTP/1.1\r\nHost: shop.test\r\n\r\n"); err != nil {
		return err
	}
	return e.heard(func(body []byte) error {
		if string(body) != "0\n1\n2\n3\n4\n" {
			return fmt.Errorf("drops %q", body)
		}
		return nil
	})
}

// frames opens a WebSocket, says something a few times, and leaves.
func (e *errand) frames() error {
	defer e.leave()
	frames, err := upgrade(e.conn, "shop.test")
	if err != nil {
		return err
	}
	for n := range 5 {
		text := strings.Repeat(e.token, 1+n*200)
		if err := sendFrame(e.conn, textFrame, text); err != nil {
			return err
		}
		opcode, got, err := takeFrame(frames)
		if err != nil || opcode != textFrame || got != text {
			return fmt.Errorf("echo: opcode %d, %.100q, %w", opcode, got, err)
		}
	}
	return nil
}

// trickle sends a body slowly.
func (e *errand) trickle() error {
	body := []byte(e.token)
	if _, err := fmt.Fprintf(e.conn, "POST /echo HTTP/1.1\r\nHost: sync.test\r\nContent-Length: %d\r\n\r\n", len(body)); err != nil {
		return err
	}
	pause := time.NewTicker(10 * time.Millisecond) // it is the client that is slow; nothing is waited for
	defer pause.Stop()
	for i := range body {
		<-pause.C
		if _, err := e.conn.Write(body[i : i+1]); err != nil {
			return err
		}
	}
	return e.digested(body)
}

// leaveUpload begins a body, leaves, and asks the same app on another connection.
func (e *errand) leaveUpload() error {
	_, err := fmt.Fprintf(e.conn, "POST /echo HTTP/1.1\r\nHost: sync.test\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat(e.token, 2000))
	if err != nil {
		return err
	}
	e.leave()
	if err := e.reach(); err != nil {
		return err
	}
	return e.ask("sync.test")
}
