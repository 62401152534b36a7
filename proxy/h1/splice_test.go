package h1

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// A handed source has bytes ahead until it is asked twice: somebody else has taken them.
type handed struct {
	t     *testing.T
	asked int
}

func (h *handed) Ahead() int64 {
	if h.asked++; h.asked == 1 {
		return 4
	}
	return 0
}

func (h *handed) Splice(int, int) (int, error) {
	h.t.Error("spliced what is somebody else's by now")
	return 0, io.EOF
}

func (h *handed) Next() ([]byte, error) {
	if h.asked < 0 {
		return nil, io.EOF
	}
	h.asked = -1 << 30
	return []byte("body"), nil
}

func (h *handed) Ready() bool { return true }

// A handingOver answers every request with a handed body.
type handingOver struct{ t *testing.T }

func (h handingOver) Serve(ex *message.Exchange) {
	resp := message.Response{Status: 200, Length: 4}
	err := ex.Stream.Reply(&resp)
	if err == nil {
		_, err = ex.Stream.ReadFrom(&handed{t: h.t})
	}
	if err == nil {
		err = ex.Stream.Finish(nil)
	}
	if err != nil {
		h.t.Error(err)
	}
}

// TestSpliceAsksAgain: what is ahead before a flush may be drained by somebody else after
// it, since the client can have fallen behind meanwhile.
func TestSpliceAsksAgain(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	ended := make(chan struct{})
	e := &Engine{
		Handler: handingOver{t}, Limits: testLimits(), Buffers: new(Buffers),
		Refused: func(_ *message.Exchange, r *message.Refusal) { t.Error(r) },
		Ended:   func(message.Peer) { close(ended) },
	}
	raw := new(loop.Conn)
	if err := watcher.Adopt(raw, pair[0]); err != nil {
		t.Fatal(err)
	}
	e.Start(raw, raw, message.Peer{})
	client := os.NewFile(uintptr(pair[1]), "client")
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(client)
	if err != nil || len(answer) < 4 || string(answer[len(answer)-4:]) != "body" {
		t.Errorf("%q, %v", answer, err)
	}
	client.Close()
	<-ended
}
