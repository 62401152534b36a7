package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
)

// h2cShop is a shop whose app is asked in HTTP/2.
const h2cShop = `listen = { http = ["127.0.0.1:0"], https = ["127.0.0.1:0"], advertise_port = 443 }
[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "shop"
[app.shop]
socket = "unix:{dir}/app/app.sock"
protocol = "h2c"
max_inflight = 20
health = { path = "/health", every = "1h" }
`

func (s *scene) h2cHouse(kind string) *house {
	s.t.Helper()
	s.certificate("shop", p256(s.t), "shop.test", "127.0.0.1")
	s.write("sallyport.toml", h2cShop)
	s.app(kind)
	return s.start()
}

// asBytes is a codec that leaves messages as they are.
type asBytes struct{}

func (asBytes) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (asBytes) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
func (asBytes) Name() string { return "bytes" }

// TestGRPC has Go's client of gRPC call an app in Python, by each kind of call.
func TestGRPC(t *testing.T) {
	s := newScene(t)
	h := s.h2cHouse("grpc")
	client, err := grpc.NewClient("passthrough:shop.test", grpc.WithTransportCredentials(credentials.NewTLS(s.client("shop.test"))),
		grpc.WithAuthority("shop.test"), grpc.WithDefaultCallOptions(grpc.ForceCodec(asBytes{}), grpc.MaxCallRecvMsgSize(32<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.https)
		}))
	s.must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for _, n := range []int{0, 10, 3 << 20} { // 4 MiB are the app's limit
		said, got := bytes.Repeat([]byte("m"), n), []byte(nil)
		var trailer metadata.MD
		err := client.Invoke(metadata.AppendToOutgoingContext(ctx, "x-said", "a"), "/test.Talk/Echo", &said, &got, grpc.Trailer(&trailer))
		if err != nil || !bytes.Equal(got, said) || fmt.Sprint(trailer["seen"], trailer["for"]) != "[a] [127.0.0.1]" {
			t.Errorf("unary: %d bytes of %d, trailer %v: %v", len(got), n, trailer, err)
		}
	}
	var none []byte
	if err := client.Invoke(ctx, "/test.Talk/Fail", &none, &none); grpcstatus.Code(err) != codes.NotFound || grpcstatus.Convert(err).Message() != "no such thing: 100%" {
		t.Errorf("failure: %v", err)
	}
	call := func(name string, send, receive int) (err error) {
		stream, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Talk/"+name)
		s.must(err)
		piece := []byte(strings.Repeat("p", 1000))
		for i := range max(send, receive) {
			if i < send {
				s.must(stream.SendMsg(&piece))
			}
			if i == send-1 && name != "Talk" {
				s.must(stream.CloseSend())
			}
			var got []byte
			if i < receive {
				if err := stream.RecvMsg(&got); err != nil || len(got) != 1000*max(1, send/receive) {
					return fmt.Errorf("message %d, of %d bytes: %w", i, len(got), err)
				}
			}
		}
		_ = stream.CloseSend() // a second time is fine
		return stream.RecvMsg(&none)
	}
	if err := call("Repeat", 1, 100); err != io.EOF {
		t.Errorf("server stream: %v", err)
	}
	if err := call("Talk", 50, 50); grpcstatus.Code(err) != codes.AlreadyExists {
		t.Errorf("both streams: %v", err)
	}
	late, over := context.WithTimeout(ctx, 100*time.Millisecond)
	defer over()
	if err := client.Invoke(late, "/test.Talk/Wait", &none, &none); grpcstatus.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	s.arrived("left")
	var calling sync.WaitGroup
	for i := range 1000 {
		calling.Go(func() {
			said, got := fmt.Append(nil, i), []byte(nil)
			if err := client.Invoke(ctx, "/test.Talk/Echo", &said, &got); err != nil || !bytes.Equal(got, said) {
				t.Errorf("call %d: %q: %v", i, got, err)
			}
		})
	}
	calling.Wait()
}

// TestHypercornH2C: an app server that speaks both is asked in HTTP/2, by clients of both,
// WebSockets too.
func TestHypercornH2C(t *testing.T) {
	s := newScene(t)
	h := s.h2cHouse("hypercorn")
	for _, version := range []string{"--http1.1", "--http2"} {
		if got := s.answered(version, "https://shop.test/hello"); !strings.Contains(got, `"path": "/hello"`) {
			t.Errorf("%s: %q", version, got)
		}
		s.write("body", strings.Repeat("b", 10<<20))
		if got := s.answered(version, "--data-binary", "@"+s.path("body"), "https://shop.test/echo"); !strings.Contains(got, fmt.Sprintf(`"length": %d`, 10<<20)) {
			t.Errorf("%s: %q", version, got)
		}
	}
	conn, err := net.Dial("tcp", h.http)
	s.must(err)
	defer conn.Close()
	frames := handshake(t, conn, "shop.test")
	for _, text := range []string{"hello", strings.Repeat("a longer one, ", 4000)} {
		writeFrame(t, conn, textFrame, text)
		if opcode, got := readFrame(t, frames); opcode != textFrame || got != text {
			t.Fatalf("echo of %.20q: opcode %d, %.20q", text, opcode, got)
		}
	}
	writeFrame(t, conn, closeFrame, "\x03\xe8")
	if opcode, _ := readFrame(t, frames); opcode != closeFrame {
		t.Errorf("answer to the close frame: opcode %d", opcode)
	} // and no end of the stream: Hypercorn 0.13 waits for the client's
}

// TestH2CNotSpoken: an app that speaks HTTP/1 alone, and what the log says of it.
func TestH2CNotSpoken(t *testing.T) {
	s := newScene(t)
	h := s.h2cHouse("gunicorn-gthread")
	if got := s.statusOf("https://shop.test/"); got != "502" {
		t.Errorf("status %s", got)
	}
	h.wait(t, "app failed", "hint=*")
	if lines := h.find("app failed"); len(lines) == 0 || !strings.Contains(fmt.Sprint(lines[0]), `protocol = "h2c"`) {
		t.Errorf("the log says %v", lines)
	}
}
