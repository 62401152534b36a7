package upstream

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/conf"
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
)

// An App is a set of members that answer alike.
type App struct {
	Name    string
	MaxBody int64 // bytes of a request body; 0: no limit

	plan    conf.App
	members []*Member
	buffers *h1.Buffers
	leases  sync.Pool // of *Lease
}

// A Member is one socket of an app.
type Member struct {
	Socket   string // absolute path
	addr     net.UnixAddr
	inFlight atomic.Int64
}

// New is the apps of a plan, in its order.
func New(plan []conf.App, buffers *h1.Buffers) []*App {
	apps := make([]*App, len(plan))
	for i := range plan {
		apps[i] = newApp(plan[i], buffers)
	}
	return apps
}

func newApp(plan conf.App, buffers *h1.Buffers) *App {
	a := &App{Name: plan.Name, MaxBody: plan.MaxBody, plan: plan, buffers: buffers}
	for _, socket := range plan.Sockets {
		a.members = append(a.members, &Member{Socket: socket, addr: net.UnixAddr{Net: "unix", Name: socket}})
	}
	return a
}

// replyLimits bound the head of a reply. Apps put whole sessions in cookies: the
// 4 KiB of nginx are its best-known 502.
var replyLimits = conf.Limits{HeadBytes: 128 << 10, LineBytes: 64 << 10, Fields: 500}

// Send runs req on the least busy member: it connects, sends the request and
// waits for the first byte of the reply. While body still has to come, it is
// sent by a goroutine of the lease. Errors are *Error, or a *message.SourceError
// of body.
//
// The lease is never nil, and due for Release in any case.
func (a *App) Send(req *message.Request, body message.Source) (*Lease, error) {
	lease := a.lease(nil)
	for try := 0; ; try++ {
		err := lease.send(req, body)
		if err == nil || try >= a.plan.Retries || !lease.retryable(req, err) {
			return lease, err
		}
		failed := lease.member
		lease.Release()
		lease = a.lease(failed)
	}
}

// lease takes a slot on the least busy member, and on failed only if there is no other.
func (a *App) lease(failed *Member) *Lease {
	lease, ok := a.leases.Get().(*Lease)
	if !ok {
		lease = &Lease{app: a, uploaded: make(chan error, 1)}
	}
	lease.member = a.pick(failed)
	lease.member.inFlight.Add(1)
	return lease
}

func (a *App) pick(failed *Member) *Member {
	var best *Member
	least := int64(0)
	for _, m := range a.members {
		if m == failed && len(a.members) > 1 {
			continue
		}
		if n := m.inFlight.Load(); best == nil || n < least {
			best, least = m, n
		}
	}
	return best
}

// connect connects to m. A full backlog (EAGAIN, connect(2)) is a busy app and no
// absent one: it is tried again until limit has passed.
func (m *Member) connect(limit time.Duration) (*net.UnixConn, error) {
	begun := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		conn, err := net.DialUnix("unix", nil, &m.addr)
		if !errors.Is(err, syscall.EAGAIN) || time.Since(begun)+wait > limit {
			return conn, err
		}
		time.Sleep(wait)
	}
}
