package upstream

import (
	"sync"
	"sync/atomic"

	"sallyport/conf"
	"sallyport/proxy/h1"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
)

// An App is a set of members that answer alike.
type App struct {
	Name    string
	MaxBody int64 // bytes of a request body; 0: no limit

	plan    conf.App
	members []*Member
	loop    *loop.Loop // of the connections to them
	buffers *h1.Buffers
	leases  sync.Pool // of *Lease
	conns   sync.Pool // of *conn that are closed
}

// A Member is one socket of an app.
type Member struct {
	Socket   string // absolute path
	inFlight atomic.Int64
	idle     pool
}

// New is the apps of a plan, in its order.
func New(plan []conf.App, watcher *loop.Loop, buffers *h1.Buffers) []*App {
	apps := make([]*App, len(plan))
	for i := range plan {
		apps[i] = newApp(plan[i], watcher, buffers)
	}
	return apps
}

func newApp(plan conf.App, watcher *loop.Loop, buffers *h1.Buffers) *App {
	a := &App{Name: plan.Name, MaxBody: plan.MaxBody, plan: plan, loop: watcher, buffers: buffers}
	for _, socket := range plan.Sockets {
		a.members = append(a.members, &Member{Socket: socket, idle: pool{keep: plan.Keepalive, spare: &a.conns}})
	}
	return a
}

// Close closes the idle connections; those in use are when they come back. Requests
// may still be sent.
func (a *App) Close() {
	for _, m := range a.members {
		m.idle.close()
	}
}

// replyLimits bound the head of a reply. Apps put whole sessions in cookies: the
// 4 KiB of nginx are its best-known 502.
var replyLimits = conf.Limits{HeadBytes: 128 << 10, LineBytes: 64 << 10, Fields: 500}

// Send runs req on the least busy member: it takes an idle connection or makes one,
// sends the request and waits for the first byte of the reply. While body still has to
// come, it is sent by a goroutine of the lease. Errors are *Error, or a
// *message.SourceError of body.
//
// The lease is never nil, and due for Release in any case.
func (a *App) Send(req *message.Request, body message.Source) (*Lease, error) {
	l := a.lease()
	err := l.open()
	if err == nil {
		err = l.send(req, body)
	}
	for err != nil && l.repeatable(req, err) {
		if err = l.renew(); err == nil {
			err = l.resend()
		}
	}
	return l, err
}

// lease takes a slot on the least busy member.
func (a *App) lease() *Lease {
	l, ok := a.leases.Get().(*Lease)
	if !ok {
		l = &Lease{app: a, uploaded: make(chan error, 1)}
		l.conn.Keep = a.plan.Keepalive > 0
		l.conn.Redial = l.redial
	}
	l.tries, l.reused, l.complete = 0, false, false
	l.member = a.pick(nil)
	l.member.inFlight.Add(1)
	return l
}

// pick is the least busy member, and failed only if there is no other.
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
