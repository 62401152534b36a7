package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/proxy/h1"
	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/upstream/board"
)

// This file is what is known of a member beyond one request: that it is lost, by the
// connects of requests, and how its checks go. How requests avoid it is in slot.go.

const (
	// checkTimeMax is how long a check may take, if every is not shorter.
	checkTimeMax = 5 * time.Second
	// checkBodyMax is what is read of an answer, so that the app can end it in peace.
	checkBodyMax = 64 << 10
)

// checks are those of one app by this core.
type checks struct {
	running sync.WaitGroup
	stop    chan struct{} // nil while there are none
	ended   sync.Once
}

func (c *checks) end() {
	if c.stop != nil {
		c.ended.Do(func() { close(c.stop) })
	}
}

// Watch has the news of members logged, and begins the checks if the plan has any. It
// comes before the first request. Close ends the checks.
func (a *App) Watch(log zerolog.Logger) {
	a.log = log
	if a.plan.Health == nil {
		return
	}
	a.queue.HeedChecks()
	a.checks.stop = make(chan struct{})
	for _, m := range a.members {
		a.checks.running.Go(func() { a.checkLoop(m) })
	}
}

// checkLoop checks a member whenever that is due and no other core has begun to. Close
// ends it.
func (a *App) checkLoop(m *Member) {
	every := a.plan.Health.Every
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-a.checks.stop:
			return
		case <-due.C:
		}
		mine, next := a.queue.ClaimCheck(m.index, time.Now(), every)
		if mine {
			a.check(m)
		}
		due.Reset(min(time.Until(next), every)) // the clock may have been set back
	}
}

// check asks a member whether it is well. It takes a slot, so that the app never has more
// than max_inflight; where there is none, the member is busy, and so alive.
func (a *App) check(m *Member) {
	var slot board.Waiter
	if !a.queue.TryTake(&slot, m.index) {
		return
	}
	verdict, known := a.ask(m, min(a.plan.Health.Every, checkTimeMax))
	a.queue.Release(&slot)
	if !known || !a.queue.Judge(m.index, verdict) {
		return
	}
	if verdict == 0 {
		a.log.Info().Str("app", a.Name).Str("socket", m.Socket).Msg("check passed")
		return
	}
	a.log.Warn().Str("app", a.Name).Str("socket", m.Socket).Str("cause", verdict.String()).
		Str("hint", "the member is left out until a check passes, unless it is the last").Msg("check failed")
}

// ask makes one check on a connection of its own, which takes no longer than limit. The
// verdict is not known where the backlog is full, which is to be busy too, or where no
// connection could be made for want of something here.
func (a *App) ask(m *Member, limit time.Duration) (verdict board.Trouble, known bool) {
	link := new(h2.AppConn) // which has a connection in it
	conn := &link.Raw
	if err := a.dial(conn, &unix.SockaddrUnix{Name: m.Socket}, m); err != nil {
		errno := errnoOf(err)
		return board.Trouble(errno), refuses(errno)
	}
	a.found(m)
	if a.shared != nil {
		return a.askCall(link, limit), true
	}
	var app h1.AppConn
	app.Open(conn, a.buffers, replyLimits, 2*checkTimeMax) // which end comes before
	status, err := a.askWithin(&app, limit)
	app.Close()
	return verdictOf(status, err), true
}

// askWithin is askStatus, for no longer than limit.
func (a *App) askWithin(app carrier, limit time.Duration) (status int, err error) {
	over := make(chan struct{})
	end := time.AfterFunc(limit, func() { app.Cut(); close(over) })
	status, err = askStatus(app, a.checkRequest())
	if !end.Stop() {
		<-over // it must not cut what has the number of the connection next
	}
	return status, err
}

// checkRequest is what a member is asked.
func (a *App) checkRequest() *message.Request {
	host := []byte(a.plan.Health.Host)
	req := &message.Request{Method: []byte("GET"), Authority: host, Host: host, Target: []byte(a.plan.Health.Path)}
	req.Fields.Add("User-Agent", []byte("sallyport"))
	return req
}

// askStatus sends req, and is the status of the answer.
func askStatus(app carrier, req *message.Request) (status int, err error) {
	if _, err := app.Send(req, nil); err != nil { // it has no body
		return 0, err
	}
	if err := app.Await(2 * checkTimeMax); err != nil {
		return 0, err
	}
	for {
		resp, err := app.ReadReply(req)
		if err != nil {
			return 0, err
		}
		if !resp.Interim() {
			status = resp.Status
			break
		}
	}
	for taken := 0; taken < checkBodyMax; {
		piece, err := app.Next()
		if err != nil { // of the body, which is not asked about
			break
		}
		taken += len(piece)
	}
	return status, nil
}

// verdictOf is what an answer says of a member.
func verdictOf(status int, err error) board.Trouble {
	switch {
	case err == nil && status >= 200 && status < 400:
		return 0
	case err == nil:
		return board.BadStatus(status)
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return board.Silent
	case hungUp(err), errors.Is(err, io.ErrUnexpectedEOF):
		return board.HungUp
	}
	if errno := errnoOf(err); errno != 0 {
		return board.Trouble(errno)
	}
	return board.Malformed
}

// refuses reports whether a connect that failed so says that nobody can be reached at the
// socket. Others are of a full backlog, or of what is wanting here (EMFILE, ENOBUFS).
func refuses(errno syscall.Errno) bool {
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.ECONNREFUSED, unix.EACCES, unix.EPERM, unix.ELOOP, unix.EPROTOTYPE:
		return true
	}
	return false
}

// refused notes that a member could not be reached because of fault, and has it left alone
// for a while: even if it is the last, where requests may wait for it, which is held.
func (a *App) refused(m *Member, fault *Error, held bool) {
	errno := fault.Errno()
	if !refuses(errno) {
		return
	}
	shut := a.queue.ShutUnlessLast
	if held {
		shut = a.queue.Shut
	}
	if shut(m.index) {
		times := m.refused.Add(1)
		a.lookIn(m, min(refusedPause<<min(times-1, 10), refusedPauseMax))
	}
	if m.refused.Load() < lostAfter && !a.queue.Held() || !a.queue.Lose(m.index, board.Trouble(errno)) {
		return
	}
	a.log.Warn().Str("app", a.Name).Str("socket", m.Socket).Str("cause", errno.Error()).
		Str("errno", unix.ErrnoName(errno)).Str("hint", fault.Hint()).Msg("member lost")
}

// found notes that a member could be reached.
func (a *App) found(m *Member) {
	a.queue.Open(m.index)
	if m.refused.Load() != 0 {
		m.refused.Store(0)
	}
	if a.queue.Find(m.index) {
		a.log.Info().Str("app", a.Name).Str("socket", m.Socket).Msg("member back")
	}
}
