package h1

import (
	"io"
	"net"
	"testing"

	"sallyport/conf"
	"sallyport/proxy/message"
)

// An abortHandler reads a body, which sends a 100 Continue, and aborts while that is
// half sent.
type abortHandler struct{ half chan struct{} }

func (h abortHandler) Serve(ex *message.Exchange) {
	read := make(chan struct{})
	go func() { // as an upload does; ends with the abort
		defer close(read)
		_, _ = ex.Stream.Next() // of a client that sends nothing: only its end counts
	}()
	<-h.half
	ex.Stream.Abort(message.Reason{Cause: "the app has gone"})
	<-read
}

// The buffer of a 100 Continue that is on its way must not be given to anybody else.
// The race detector sees it where chance does not.
func TestAbortWhileContinueIsSent(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	half := make(chan struct{})
	e := &Engine{Handler: abortHandler{half}, Limits: conf.Limits{HeadBytes: 4096, LineBytes: 1024, Fields: 10}, Buffers: new(Buffers)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		e.Serve(server, message.Peer{})
	}()
	if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(client, got[:1]); err != nil {
		t.Fatal(err)
	}
	close(half)
	if _, err := io.ReadFull(client, got[1:]); err != nil || string(got) != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	<-over
}
