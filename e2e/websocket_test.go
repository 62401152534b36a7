package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Opcodes of RFC 6455, section 5.2.
const (
	textFrame  = 1
	closeFrame = 8
	pingFrame  = 9
	pongFrame  = 10
)

// echoFrames opens a WebSocket at /ws, which sends back what it gets, and
// closes it as RFC 6455 wants it.
func echoFrames(t *testing.T, conn net.Conn, host string) {
	t.Helper()
	frames := handshake(t, conn, host)
	for _, text := range []string{"hello", strings.Repeat("a longer one, ", 4000)} {
		writeFrame(t, conn, textFrame, text)
		if opcode, got := readFrame(t, frames); opcode != textFrame || got != text {
			t.Fatalf("echo of %.20q (%d bytes): opcode %d, %.20q (%d bytes)", text, len(text), opcode, got, len(got))
		}
	}
	const normal = "\x03\xe8" // 1000
	writeFrame(t, conn, closeFrame, normal)
	if opcode, got := readFrame(t, frames); opcode != closeFrame || !strings.HasPrefix(got, normal) {
		t.Errorf("answer to the close frame: opcode %d, %q", opcode, got)
	}
	if rest, err := io.ReadAll(frames); len(rest) != 0 || err != nil {
		t.Errorf("after the close frame: %q, %v", rest, err)
	}
}

// handshake asks for the WebSocket and returns what comes after the head.
func handshake(t *testing.T, conn net.Conn, host string) *bufio.Reader {
	t.Helper()
	frames, err := upgrade(conn, host)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// upgrade is handshake for those who live on after an error.
func upgrade(conn net.Conn, host string) (*bufio.Reader, error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	_, err := fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", host, key)
	if err != nil {
		return nil, err
	}
	answers := bufio.NewReader(conn)
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return nil, err
	}
	accept := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	want := base64.StdEncoding.EncodeToString(accept[:])
	if got := answer.Header.Get("Sec-WebSocket-Accept"); answer.StatusCode != http.StatusSwitchingProtocols || got != want {
		return nil, fmt.Errorf("handshake: %s, accept %q, want %q", answer.Status, got, want)
	}
	return answers, nil
}

// writeFrame sends one whole message, masked as a client's must be. It has at
// most 64 KiB - 1.
func writeFrame(t *testing.T, conn io.Writer, opcode byte, payload string) {
	t.Helper()
	if err := sendFrame(conn, opcode, payload); err != nil {
		t.Fatal(err)
	}
}

// sendFrame is writeFrame for those who live on after an error.
func sendFrame(conn io.Writer, opcode byte, payload string) error {
	frame := []byte{0x80 | opcode} // the last frame of its message
	if len(payload) < 126 {
		frame = append(frame, 0x80|byte(len(payload)))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(len(payload)))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	frame = append(frame, mask[:]...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^mask[i%4])
	}
	_, err := io.Copy(conn, bytes.NewReader(frame))
	return err
}

// readFrame reads one whole message of less than 64 KiB; a server does not mask.
func readFrame(t *testing.T, frames io.Reader) (opcode byte, payload string) {
	t.Helper()
	opcode, payload, err := takeFrame(frames)
	if err != nil {
		t.Fatal(err)
	}
	return opcode, payload
}

// takeFrame is readFrame for those who live on after an error.
func takeFrame(frames io.Reader) (opcode byte, payload string, err error) {
	head := make([]byte, 2)
	_, err = io.ReadFull(frames, head)
	length := int(head[1])
	if err == nil && length == 126 {
		extended := make([]byte, 2)
		_, err = io.ReadFull(frames, extended)
		length = int(binary.BigEndian.Uint16(extended))
	}
	if err != nil || head[0]&0xf0 != 0x80 || head[1] > 126 {
		return 0, "", fmt.Errorf("frame: % x, %w", head, err)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(frames, body); err != nil {
		return 0, "", fmt.Errorf("frame of %d bytes: %w", length, err)
	}
	return head[0] & 0xf, string(body), nil
}
