// Package h3load asks for one thing over HTTP/3, as often as it can: what wrk and h2load are for
// HTTP/1 and HTTP/2. It speaks HTTP/3 itself, on QUIC by quic-go, with as little work as that
// takes: a request is the same bytes every time, and of a reply it looks whether the status is
// 200.
package h3load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// A Load is what is asked, of whom, and how much of it at once.
type Load struct {
	Address     string // "127.0.0.1:443"
	Host        string // shorter than 64 bytes
	Roots       *x509.CertPool
	Connections int
	Streams     int // of each connection
}

// A Sum is what came of a Load.
type Sum struct {
	Requests int64 // answered with 200
	Failed   int64
}

// dialTime is for a handshake.
const dialTime = 5 * time.Second

// Dial opens a connection that has had one answer.
func (l Load) Dial(ctx context.Context) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	config := &tls.Config{RootCAs: l.Roots, ServerName: l.Host, NextProtos: []string{"h3"}}
	conn, err := quic.DialAddr(ctx, l.Address, config, &quic.Config{MaxIdleTimeout: 2 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("h3load: %w", err)
	}
	control, err := conn.OpenUniStream()
	if err == nil {
		_, err = control.Write([]byte{0, 4, 0}) // SETTINGS, of which there are none
	}
	if err == nil {
		err = l.ask(conn, make([]byte, 4096))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("h3load: %w", err), conn.CloseWithError(0x100, ""))
	}
	return conn, nil
}

// Run asks until ctx is over.
func (l Load) Run(ctx context.Context) (Sum, error) {
	var done, failed atomic.Int64
	var asking sync.WaitGroup
	for range l.Connections {
		conn, err := l.Dial(ctx)
		if err != nil {
			return Sum{}, err
		}
		defer conn.CloseWithError(0x100, "")
		for range l.Streams {
			asking.Go(func() { l.askLoop(ctx, conn, &done, &failed) })
		}
	}
	asking.Wait()
	return Sum{done.Load(), failed.Load()}, nil
}

// askLoop ends with ctx or the connection.
func (l Load) askLoop(ctx context.Context, conn *quic.Conn, done, failed *atomic.Int64) {
	buffer := make([]byte, 4096)
	for ctx.Err() == nil {
		if err := l.ask(conn, buffer); err != nil {
			if ctx.Err() == nil {
				failed.Add(1)
			}
			if conn.Context().Err() != nil {
				return
			}
			continue
		}
		done.Add(1)
	}
}

var errStatus = errors.New("h3load: the answer is not 200")

// ask asks once. Status 200 is one byte of a section, where the static table is used for it, the
// first behind the prefix (RFC 9204, appendix A).
func (l Load) ask(conn *quic.Conn, buffer []byte) error {
	stream, err := conn.OpenStreamSync(conn.Context())
	if err != nil {
		return err
	}
	if _, err := stream.Write(l.request(buffer[:0])); err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	n, err := io.ReadFull(stream, buffer)
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.Join(err, errStatus) // longer than what is asked for
	}
	head := buffer[:n]
	skip := 2
	if n > 2 && head[1]>>6 == 1 { // the length of the frame has two bytes
		skip = 3
	}
	if n < skip+3 || head[0] != 1 || head[skip+2] != 0xc0|25 {
		return errStatus
	}
	return nil
}

// request appends GET / as a HEADERS frame.
func (l Load) request(b []byte) []byte {
	const get, https, slash, authority = 0xc0 | 17, 0xc0 | 23, 0xc0 | 1, 0x50
	b = append(b, 1, byte(7+len(l.Host)), 0, 0, get, https, slash, authority, byte(len(l.Host)))
	return append(b, l.Host...)
}
