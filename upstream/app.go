package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sallyport/conf"
	"sallyport/proxy/h1"
	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/sockets/loop"
	"sallyport/upstream/board"
)

// An App is a set of members that answer alike.
type App struct {
	Name    string
	MaxBody int64 // bytes of a request body; 0: no limit

	plan    conf.App
	members []*Member
	queue   *board.Queue              // its slots and its line, over all cores
	absence atomic.Pointer[Error]     // why the last connect failed; nil once one has not
	denied  atomic.Pointer[time.Time] // since when a socket may not be reached; nil: it may
	again   time.Duration             // until a request is sent once more to the same member
	lookAt  atomic.Pointer[time.Time] // when the first of the members that are shut is tried again; nil: never
	loop    *loop.Loop                // of the connections to them
	way     Way                       // of connections to come; stands before the first request
	buffers *h1.Buffers
	shared  *h2.Apps  // nil where the app speaks HTTP/1
	leases  sync.Pool // of *Lease
	conns   sync.Pool // of *conn that are closed
	checks  checks
	log     zerolog.Logger // of news of members

	mu sync.Mutex // of what members say of being shut
}

// A Member is one socket of an app.
type Member struct {
	Socket string // absolute path
	index  int
	number int   // among the members of all apps
	idle   pool  // of an app that speaks HTTP/1
	links  links // of one that speaks HTTP/2

	lookAt  time.Time    // when it is tried again, if it is shut; zero: not before it was. Guarded by App.mu
	refused atomic.Int32 // times in a row that it was shut because it refused
}

// againPause is longer than the processes of an app take to end that are killed together,
// on a machine that is busy: 20 ms were not, once in 1,501 GETs.
const againPause = 100 * time.Millisecond

// New is the apps of a plan, in its order, as the board counts them.
func New(plan []conf.App, shared *board.Board, watcher *loop.Loop, buffers *h1.Buffers) []*App {
	apps := make([]*App, len(plan))
	for i := range plan {
		apps[i] = newApp(plan[i], shared.Queue(i), watcher, buffers)
	}
	return apps
}

func newApp(plan conf.App, queue *board.Queue, watcher *loop.Loop, buffers *h1.Buffers) *App {
	a := &App{Name: plan.Name, MaxBody: plan.MaxBody, plan: plan, queue: queue, again: againPause, loop: watcher, buffers: buffers}
	if plan.H2C {
		a.shared = new(h2.Apps)
	}
	for i, socket := range plan.Sockets {
		a.members = append(a.members, &Member{Socket: socket, index: i, idle: pool{keep: plan.Keepalive, spare: &a.conns}})
	}
	return a
}

// Come has the connections to all apps of a plan made in some way. It comes before the
// first request.
func Come(apps []*App, way Way) {
	number := 0
	for _, a := range apps {
		a.way = way
		for _, m := range a.members {
			m.number = number
			number++
		}
	}
}

// Close closes the idle connections; those in use are when they come back. It ends the
// checks, which are for other cores to go on with. Requests may still be sent.
func (a *App) Close() {
	a.checks.end()
	for _, m := range a.members {
		m.idle.close()
		m.links.close()
	}
}

// replyLimits bound the head of a reply. Apps put whole sessions in cookies: the
// 4 KiB of nginx are its best-known 502.
var replyLimits = conf.Limits{HeadBytes: 128 << 10, LineBytes: 64 << 10, Fields: 500}

// What whoever buffers bodies counts of an app; see package board.
const (
	Drained    = board.Drained
	Clogged    = board.Clogged
	Overflowed = board.Overflowed
	Unspooled  = board.Unspooled
)

// Count adds one to what is counted of a, for status.
func (a *App) Count(what board.Tally) { a.queue.Count(what) }

// Send runs req on the least busy member: it takes a slot, waits for one where there is
// none, takes an idle connection or makes one, sends the request and waits for the
// first byte of the reply. While body still has to come, it is sent by a goroutine of
// the lease. Errors are *Error, or a *message.SourceError of body, or board.ErrGone
// where the client left while it waited; nil is a client that never does.
//
// The lease is never nil, and due for Release in any case.
func (a *App) Send(req *message.Request, body message.Source, client board.Client) (*Lease, error) {
	l := a.lease(client)
	if l.call != nil {
		return l, l.sendCall(req, body)
	}
	err := l.open()
	if err == nil {
		err = l.send(req, body)
	}
	for err != nil && l.repeatable(req, err) {
		if err = l.renew(); err == nil {
			err = l.resend()
		}
	}
	if err != nil {
		l.count(err)
	}
	return l, err
}

// lease is a lease that holds nothing yet.
func (a *App) lease(client board.Client) *Lease {
	l, ok := a.leases.Get().(*Lease)
	if !ok {
		l = &Lease{app: a, uploaded: make(chan error, 1)}
		if a.shared != nil {
			l.call = new(h2.Call)
			l.conn = l.call
		} else {
			l.conn = &l.h1
			l.h1.Keep = a.plan.Keepalive > 0
			l.h1.Redial = l.redial
		}
	}
	l.client, l.begun, l.Queued, l.absent = client, time.Now(), 0, time.Time{}
	l.member, l.tries, l.reused, l.spared, l.complete, l.held = nil, 0, false, false, false, false
	return l
}
