package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sallyport/conf"
)

// This file is gRPC, by its own client and server, with us between them.

// plainBytes is a codec that leaves messages as they are.
type plainBytes struct{}

func (plainBytes) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (plainBytes) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
func (plainBytes) Name() string { return "plain" }

// talk is what the app can do: each kind of call, and what may go wrong.
func talk() *grpc.ServiceDesc {
	stream := func(do func(grpc.ServerStream) error) grpc.StreamHandler {
		return func(_ any, s grpc.ServerStream) error { return do(s) }
	}
	return &grpc.ServiceDesc{ServiceName: "test.Talk", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		{MethodName: "Echo", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var b []byte
			err := decode(&b)
			md, _ := metadata.FromIncomingContext(ctx)
			_ = grpc.SetTrailer(ctx, metadata.Pairs("seen", fmt.Sprint(md["x-said"]), "te", fmt.Sprint(md["te"]), "raw-bin", "\x00\xff"))
			return &b, err
		}},
		{MethodName: "Fail", Handler: func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			return nil, status.Error(codes.NotFound, "no such thing: 100%")
		}},
		{MethodName: "Wait", Handler: func(_ any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
	}, Streams: []grpc.StreamDesc{
		{StreamName: "Join", ClientStreams: true, Handler: stream(func(s grpc.ServerStream) error {
			var all []byte
			for {
				var b []byte
				if err := s.RecvMsg(&b); err == io.EOF {
					return s.SendMsg(&all)
				} else if err != nil {
					return err
				}
				all = append(all, b...)
			}
		})},
		{StreamName: "Repeat", ServerStreams: true, Handler: stream(func(s grpc.ServerStream) error {
			var b []byte
			if err := s.RecvMsg(&b); err != nil {
				return err
			}
			for range 100 {
				if err := s.SendMsg(&b); err != nil {
					return err
				}
			}
			return nil
		})},
		{StreamName: "Talk", ClientStreams: true, ServerStreams: true, Handler: stream(func(s grpc.ServerStream) error {
			for {
				var b []byte
				if err := s.RecvMsg(&b); err == io.EOF {
					return status.Error(codes.AlreadyExists, "at the end")
				} else if err != nil {
					return err
				}
				if err := s.SendMsg(&b); err != nil {
					return err
				}
			}
		})},
	}}
}

// grpcWorld gives play a client of the app, over HTTP/2 with and without TLS.
func grpcWorld(t *testing.T, change func(*conf.Core), play func(w *world, client *grpc.ClientConn)) {
	for _, p := range protocols() {
		if !p.h2 || p.h3 { // of HTTP/3 it has no client
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			server := grpc.NewServer(grpc.ForceServerCodec(plainBytes{}), grpc.MaxRecvMsgSize(32<<20))
			server.RegisterService(talk(), struct{}{})
			more := func(plan *conf.Core) {
				plan.Limits.Streams = 1000
				if change != nil {
					change(plan)
				}
			}
			worldOf(t, p, more, server.Serve, func(w *world) {
				client := w.grpcClient()
				play(w, client)
				client.Close()
				server.Stop()
			})
		})
	}
}

func (w *world) grpcClient() *grpc.ClientConn {
	secret := insecure.NewCredentials()
	if w.secure {
		secret = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})
	}
	client, err := grpc.NewClient("passthrough:app.test", grpc.WithTransportCredentials(secret), grpc.WithAuthority("app.test"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, w.front.Addr().Network(), w.front.Addr().String())
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plainBytes{}), grpc.MaxCallRecvMsgSize(32<<20)))
	if err != nil {
		w.Fatal(err)
	}
	return client
}

// stream begins a call of a kind of stream.
func (w *world) stream(ctx context.Context, client *grpc.ClientConn, name string) grpc.ClientStream {
	s, err := client.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Talk/"+name)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func send(t *testing.T, s grpc.ClientStream, b []byte) {
	t.Helper()
	if err := s.SendMsg(&b); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, s grpc.ClientStream, want []byte) {
	t.Helper()
	var got []byte
	if err := s.RecvMsg(&got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(want), err)
	}
}

func TestGRPC(t *testing.T) {
	grpcWorld(t, nil, func(w *world, client *grpc.ClientConn) {
		ctx, cancel := context.WithTimeout(w.Context(), patience)
		defer cancel()
		for _, n := range []int{0, 10, 100_000, 10 << 20} {
			said, got := bytes.Repeat([]byte("m"), n), []byte(nil)
			var trailer metadata.MD
			if err := client.Invoke(metadata.AppendToOutgoingContext(ctx, "x-said", "a"), "/test.Talk/Echo", &said, &got, grpc.Trailer(&trailer)); err != nil || !bytes.Equal(said, got) {
				w.Errorf("unary: %d bytes of %d: %v", len(got), n, err)
			}
			if fmt.Sprint(trailer["seen"], trailer["raw-bin"]) != "[[a]] [\x00\xff]" {
				w.Errorf("trailer: %q", trailer)
			}
		}
		var none []byte
		if err := client.Invoke(ctx, "/test.Talk/Fail", &none, &none); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such thing: 100%" {
			w.Errorf("failure: %v", err)
		}
		piece := bytes.Repeat([]byte("p"), 50_000)
		s := w.stream(ctx, client, "Join")
		for range 50 {
			send(t, s, piece)
		}
		_ = s.CloseSend()
		receive(t, s, bytes.Repeat(piece, 50))
		s = w.stream(ctx, client, "Repeat")
		send(t, s, piece)
		_ = s.CloseSend()
		for range 100 {
			receive(t, s, piece)
		}
		s = w.stream(ctx, client, "Talk")
		for i := range 100 {
			send(t, s, piece[:i])
			receive(t, s, piece[:i])
		}
		_ = s.CloseSend()
		if err := s.RecvMsg(&none); status.Code(err) != codes.AlreadyExists {
			w.Errorf("end of both streams: %v", err)
		}
	})
}

// TestGRPCTime: what a deadline or a client ends is ended at the app too.
func TestGRPCTime(t *testing.T) {
	grpcWorld(t, func(plan *conf.Core) { plan.Apps[0].InFlightMax, plan.Apps[0].QueueLen = 1, 10 }, func(w *world, client *grpc.ClientConn) {
		var none []byte
		ctx, cancel := context.WithTimeout(w.Context(), 50*time.Millisecond)
		defer cancel()
		if err := client.Invoke(ctx, "/test.Talk/Wait", &none, &none); status.Code(err) != codes.DeadlineExceeded {
			w.Errorf("deadline: %v", err)
		}
		ctx, cancel = context.WithCancel(w.Context())
		s := w.stream(ctx, client, "Talk")
		send(t, s, []byte("x"))
		receive(t, s, []byte("x"))
		cancel()
		if err := s.RecvMsg(&none); status.Code(err) != codes.Canceled {
			w.Errorf("cancel: %v", err)
		}
		ctx, cancel = context.WithTimeout(w.Context(), patience) // the only slot is free again
		defer cancel()
		if err := client.Invoke(ctx, "/test.Talk/Echo", &none, &none); err != nil {
			w.Errorf("after both: %v", err)
		}
	})
}

// TestGRPCMany: a thousand calls at a time.
func TestGRPCMany(t *testing.T) {
	grpcWorld(t, nil, func(w *world, client *grpc.ClientConn) {
		ctx, cancel := context.WithTimeout(w.Context(), patience)
		defer cancel()
		var calling sync.WaitGroup
		for i := range 1000 {
			calling.Go(func() {
				said, got := fmt.Append(nil, i), []byte(nil)
				if err := client.Invoke(ctx, "/test.Talk/Echo", &said, &got); err != nil || !bytes.Equal(said, got) {
					t.Errorf("call %d: %q: %v", i, got, err)
				}
			})
		}
		calling.Wait()
	})
}

// TestGRPCRestart: of calls while the app is told to end, and another one takes its place, none
// is lost: each is answered by the one or the other.
func TestGRPCRestart(t *testing.T) {
	hold := func(plan *conf.Core) { plan.Apps[0].Hold, plan.Apps[0].QueueLen = patience, 100 }
	servers, over := make(chan *grpc.Server), make(chan struct{})
	serve := func(l net.Listener) error {
		for {
			server := grpc.NewServer(grpc.ForceServerCodec(plainBytes{}))
			server.RegisterService(talk(), struct{}{})
			go func() { servers <- server }()
			if err := server.Serve(l); err != nil {
				return err
			}
			select {
			case <-over:
				return nil
			default:
			}
			var err error
			if l, err = net.Listen("unix", l.Addr().String()); err != nil {
				return err
			}
		}
	}
	worldOf(t, protocol{name: "h2", h2: true}, hold, serve, func(w *world) {
		client := w.grpcClient()
		defer client.Close()
		ctx, cancel := context.WithTimeout(w.Context(), patience)
		defer cancel()
		var calling sync.WaitGroup
		for range 4 {
			calling.Go(func() {
				for i := range 500 {
					said, got := fmt.Append(nil, i), []byte(nil)
					if err := client.Invoke(ctx, "/test.Talk/Echo", &said, &got); err != nil || !bytes.Equal(said, got) {
						t.Errorf("call %d: %q: %v", i, got, err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { calling.Wait(); close(done) }()
		restarts := 0
		for more := true; more; restarts++ {
			server := <-servers
			select {
			case <-done:
				more = false
				close(over)
				server.Stop()
			case <-time.After(5 * time.Millisecond): // between two restarts
				server.GracefulStop()
			}
		}
		t.Logf("%d restarts", restarts)
	})
}
