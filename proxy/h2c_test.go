package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"sallyport/conf"
)

// This file is apps that speak HTTP/2: Go's own server, on a unix socket. What gRPC makes of
// it is in grpc_test.go, and what a hostile app does in h2capp_test.go.

// h2cWorld has app serve over HTTP/2 without TLS behind an engine of each kind, and gives
// play a client of it.
func h2cWorld(t *testing.T, change func(*conf.Core), app http.Handler, play func(w *world, client *http.Client)) {
	for _, p := range protocols() {
		t.Run(p.name, func(t *testing.T) {
			server := &http.Server{Handler: app, Protocols: new(http.Protocols)}
			server.Protocols.SetUnencryptedHTTP2(true)
			worldOf(t, p, change, server.Serve, func(w *world) {
				client := &http.Client{Transport: w.transport()}
				defer client.CloseIdleConnections()
				play(w, client)
			})
			server.Close()
		})
	}
}

// worldOf is a world whose app is what serve serves.
func worldOf(t *testing.T, p protocol, change func(*conf.Core), serve func(net.Listener) error, play func(*world)) {
	socket := filepath.Join(t.TempDir(), "h2c")
	behind, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = serve(behind) })
	tell(t, story{change: func(plan *conf.Core) {
		plan.Apps[0].Sockets, plan.Apps[0].H2C = []string{socket}, true
		if change != nil {
			change(plan)
		}
	}, client: func(c *clientSide) { play(c.world) }}, p)
	behind.Close()
	serving.Wait()
}

// transport is that of a client of w's engine.
func (w *world) transport() http.RoundTripper {
	if w.h3 {
		return &http3.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"},
			Dial: func(ctx context.Context, _ string, secure *tls.Config, config *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, w.udp.LocalAddr().String(), secure, config)
			},
		}
	}
	t := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"}, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, w.front.Addr().Network(), w.front.Addr().String())
			if err == nil { // which settle closes: a connection may not be idle yet when its client ends
				w.mu.Lock()
				w.clients = append(w.clients, conn)
				w.mu.Unlock()
			}
			return conn, err
		},
	}
	t.Protocols.SetHTTP1(!w.h2)
	t.Protocols.SetHTTP2(w.h2)
	t.Protocols.SetUnencryptedHTTP2(w.h2)
	return t
}

func (w *world) url(path string) string {
	if w.secure {
		return "https://app.test" + path
	}
	return "http://app.test" + path
}

// TestH2C: what goes through, both ways.
func TestH2C(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the app was asked in %s", r.Proto)
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "X-Behind")
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, " ", r.Host, " ", r.URL, " ", r.Header.Get("X-Real-Ip"), " ", r.ContentLength, " ", r.Trailer.Get("X-Tail")))
		_, _ = w.Write(b)
		w.Header().Set("X-Behind", "b")
	})
	h2cWorld(t, nil, app, func(w *world, client *http.Client) {
		for _, n := range []int{0, 1, 5000, 10 << 20} {
			body := bytes.Repeat([]byte("x"), n)
			req, err := http.NewRequest("POST", w.url("/a?b=c"), struct{ io.Reader }{bytes.NewReader(body)})
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Tail": {"t"}}
			resp, err := client.Do(req)
			if err != nil {
				w.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				w.Errorf("%d bytes of %d came back: %v", len(got), n, err)
			}
			if seen := resp.Header.Get("X-Seen"); seen != "POST app.test /a?b=c 127.0.0.1 -1 t" {
				w.Errorf("the app has seen %q", seen)
			}
			if small := n < 2000; resp.Trailer.Get("X-Behind") != "b" && (w.h2 || !small) { // a small one has a length, and HTTP/1 then no trailer
				w.Errorf("trailer: %v", resp.Trailer)
			}
			resp.Body.Close()
		}
	})
}

// TestH2CBothWays: the app answers while the request still comes.
func TestH2CBothWays(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flusher := http.NewResponseController(w)
		_ = flusher.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			_, _ = w.Write(b[:n])
			_ = flusher.Flush()
			if err != nil {
				return
			}
		}
	})
	h2cWorld(t, nil, app, func(w *world, client *http.Client) {
		if !w.h2 {
			return // net/http's client of HTTP/1 does not
		}
		r, body := io.Pipe()
		req, err := http.NewRequest("POST", w.url("/"), r)
		if err != nil {
			w.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			w.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 100 {
			word := fmt.Sprintf("word %02d", i)
			_, _ = io.WriteString(body, word)
			got := make([]byte, len(word))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
				w.Fatalf("%q: %v", got, err)
			}
		}
		body.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			w.Errorf("%q: %v", rest, err)
		}
	})
}

// TestH2CClientLeaves: an app is told that its client wants no more, before its reply, in it,
// and while it waits for the request.
func TestH2CClientLeaves(t *testing.T) {
	for _, where := range []string{"before", "within", "sending"} {
		t.Run(where, func(t *testing.T) {
			begun, left := make(chan struct{}, 1), make(chan struct{}, 1)
			app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if where == "within" {
					_ = http.NewResponseController(w).Flush()
				}
				begun <- struct{}{}
				<-r.Context().Done()
				left <- struct{}{}
			})
			h2cWorld(t, nil, app, func(w *world, client *http.Client) {
				if !w.h2 {
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				var body io.Reader
				if where == "sending" {
					r, end := io.Pipe()
					defer end.Close()
					body = r
				}
				req, err := http.NewRequestWithContext(ctx, "POST", w.url("/"), body)
				if err != nil {
					w.Fatal(err)
				}
				var asking sync.WaitGroup
				asking.Go(func() {
					resp, err := client.Do(req)
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
				<-begun
				cancel()
				asking.Wait()
				select {
				case <-left:
				case <-time.After(patience):
					w.Error("the app was not told")
				}
			})
		})
	}
}

// TestH2CMany: a thousand at a time, on few connections, and none of them lost.
func TestH2CMany(t *testing.T) {
	const many = 1000
	var mu sync.Mutex
	all, together := make(chan struct{}), 0
	conns := map[net.Conn]bool{}
	server := &http.Server{Protocols: new(http.Protocols), ConnState: func(c net.Conn, state http.ConnState) {
		mu.Lock()
		conns[c] = true
		mu.Unlock()
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if together++; together == many {
			close(all)
		}
		mu.Unlock()
		<-all
		_, _ = io.Copy(w, r.Body)
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	change := func(plan *conf.Core) { plan.Limits.Streams = many }
	worldOf(t, protocol{name: "h2", h2: true}, change, server.Serve, func(w *world) {
		client := &http.Client{Transport: w.transport()}
		defer client.CloseIdleConnections()
		var asking sync.WaitGroup
		for i := range many {
			asking.Go(func() {
				word := strings.Repeat(fmt.Sprint(i), 100)
				resp, err := client.Post(w.url("/"), "text/plain", strings.NewReader(word))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != word {
					t.Errorf("%.20q: %v", b, err)
				}
			})
		}
		asking.Wait()
	})
	server.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(conns) > 12 {
		t.Errorf("%d connections for %d calls", len(conns), many)
	}
}

// TestH2CNot: an app that speaks HTTP/1, or nothing, and what is said of it.
func TestH2CNot(t *testing.T) {
	for name, test := range map[string]struct {
		app  func(net.Conn)
		said string
	}{
		"HTTP/1": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 10))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "the app speaks HTTP/1: take protocol"},
		"closes":        {func(c net.Conn) {}, "the app has not said a word of HTTP/2: take protocol"},
		"reads, closes": {func(c net.Conn) { _, _ = c.Read(make([]byte, 10_000)) }, "the app has not said a word of HTTP/2: take protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			worldOf(t, protocols()[0], nil, each(test.app), func(w *world) {
				client := &http.Client{Transport: w.transport()}
				defer client.CloseIdleConnections()
				resp, err := client.Post(w.url("/"), "text/plain", strings.NewReader("x"))
				if err != nil {
					w.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 502 || !strings.Contains(w.log.String(), test.said) {
					w.Errorf("%s, and in the log: %s", resp.Status, w.log)
				}
			})
		})
	}
}

// TestH2CTunnel: a WebSocket to an app that takes them by HTTP/2, and to one that does not.
func TestH2CTunnel(t *testing.T) {
	const ask = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	takes := func(c net.Conn) {
		f, enc := http2.NewFramer(c, c), new(bytes.Buffer)
		_, _ = io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				if got := fmt.Sprint(frame.PseudoFields()); got != `[header field ":method" = "CONNECT" header field ":protocol" = "websocket" header field ":scheme" = "http" header field ":authority" = "app.test" header field ":path" = "/chat"]` && !strings.Contains(got, `"https"`) {
					t.Errorf("asked %s", got)
				}
				for _, field := range frame.RegularFields() {
					if field.Name == "sec-websocket-key" || field.Name == "upgrade" || field.Name == "connection" {
						t.Errorf("the app has got %s", field)
					}
				}
				_ = hpack.NewEncoder(enc).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: enc.Bytes(), EndHeaders: true})
			case *http2.DataFrame:
				_ = f.WriteData(frame.StreamID, frame.StreamEnded() || bytes.HasSuffix(frame.Data(), []byte("bye")), frame.Data())
			}
		}
	}
	for _, p := range protocols() {
		t.Run(p.name, func(t *testing.T) {
			worldOf(t, p, nil, each(takes), func(w *world) {
				c := w.dial()
				c.say(ask)
				if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") || !p.h2 && !strings.Contains(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") { // RFC 6455, section 1.3
					t.Errorf("head %q", head)
				}
				for _, word := range []string{"hello", "again", "bye"} {
					c.say(word)
					c.hear(word)
				}
				c.ended()
			})
		})
	}
	worldOf(t, protocols()[0], nil, each(func(c net.Conn) {
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		_, _ = io.Copy(io.Discard, c)
	}), func(w *world) {
		c := w.dial()
		c.say(ask)
		c.want("GET", 501, "501 Not Implemented\n")
		if !strings.Contains(w.log.String(), "RFC 8441") {
			t.Errorf("the log: %s", w.log)
		}
	})
}

// each serves every connection by act, one at a time.
func each(act func(net.Conn)) func(net.Listener) error {
	return func(l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			act(c)
			c.Close()
		}
	}
}

// TestH2CResets: what an app resets within its reply is reset at the client, by the same code
// where that says something of the request; and answered before it, as what it is.
func TestH2CResets(t *testing.T) {
	for code, want := range map[http2.ErrCode]struct {
		within string
		before int
	}{
		http2.ErrCodeCancel:             {"CANCEL", 502},
		http2.ErrCodeEnhanceYourCalm:    {"ENHANCE_YOUR_CALM", 503},
		http2.ErrCodeRefusedStream:      {"INTERNAL_ERROR", 503},
		http2.ErrCodeFlowControl:        {"INTERNAL_ERROR", 502},
		http2.ErrCodeHTTP11Required:     {"INTERNAL_ERROR", 502},
		http2.ErrCodeNo:                 {"INTERNAL_ERROR", 502},
		http2.ErrCodeInternal:           {"INTERNAL_ERROR", 502},
		http2.ErrCode(0xdeadbeef):       {"INTERNAL_ERROR", 502},
		http2.ErrCodeInadequateSecurity: {"INTERNAL_ERROR", 502},
	} {
		t.Run(code.String(), func(t *testing.T) {
			app := each(func(c net.Conn) {
				f := http2.NewFramer(c, c)
				_, _ = io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
				_ = f.WriteSettings()
				f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					if head, ok := frame.(*http2.MetaHeadersFrame); ok {
						if head.PseudoValue("path") == "/within" {
							_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: head.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true})
							_ = f.WriteData(head.StreamID, false, []byte("half"))
						}
						_ = f.WriteRSTStream(head.StreamID, code)
					}
				}
			})
			worldOf(t, protocol{name: "h2", h2: true}, nil, app, func(w *world) {
				client := &http.Client{Transport: w.transport()}
				defer client.CloseIdleConnections()
				resp, err := client.Get(w.url("/before"))
				if err != nil {
					w.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want.before {
					t.Errorf("before the reply: %s", resp.Status)
				}
				resp, err = client.Get(w.url("/within"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil || !strings.Contains(err.Error(), want.within) {
					t.Errorf("within the reply: %v", err)
				}
			})
		})
	}
}

// TestH2CLimits: limits of time and length hold as for every app.
func TestH2CLimits(t *testing.T) {
	told := make(chan struct{}, 10)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/half":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		case "/reads":
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				t.Error("the app has read half a body as a whole one")
			}
		}
		<-r.Context().Done()
		told <- struct{}{}
	})
	change := func(plan *conf.Core) {
		plan.Apps[0].FirstByte, plan.Apps[0].Idle, plan.Limits.BodyIdle, plan.Apps[0].MaxBody = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 10
	}
	h2cWorld(t, change, app, func(w *world, client *http.Client) {
		for _, ask := range []struct {
			path, head string
			status     int
		}{
			{"/silent", "GET /silent HTTP/1.1\r\nHost: app.test\r\n\r\n", 504},
			{"/reads", "POST /reads HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nab", 408},
			{"/reads", "POST /reads HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n0\r\n\r\n", 413},
		} {
			c := w.dial()
			c.say(ask.head)
			if resp, _ := c.reply("GET"); resp.StatusCode != ask.status {
				t.Errorf("%s: %s, want %d", ask.path, resp.Status, ask.status)
			}
		}
		c := w.dial()
		c.say("GET /half HTTP/1.1\r\nHost: app.test\r\n\r\n")
		c.broken("GET")
		for range 3 { // the one that is too long may never have come there
			select {
			case <-told:
			case <-time.After(patience):
				t.Fatal("the app was not told")
			}
		}
	})
}
