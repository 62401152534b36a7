package upstream

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"sallyport/proxy/h2"
	"sallyport/proxy/message"
	"sallyport/upstream/board"
)

// An Op is what was being done when an app failed.
type Op string

// The operations, in the order of a request's life.
const (
	Queue   Op = "queue" // no slot came free; there is no Socket yet
	Connect Op = "connect"
	Send    Op = "send"
	Read    Op = "read"
)

// ErrSurplus is more bytes than a reply has, on a connection that would be kept.
var ErrSurplus = errors.New("bytes behind the end of the reply")

// An Error is a request that an app did not answer.
type Error struct {
	App    string
	Socket string
	Op     Op
	Err    error
}

func (l *Lease) fault(op Op, err error) *Error {
	return &Error{App: l.app.Name, Socket: l.member.Socket, Op: op, Err: err}
}

func (e *Error) Error() string {
	if e.Op == Queue {
		return "upstream: app " + e.App + ": " + strings.TrimPrefix(e.Err.Error(), "board: ")
	}
	return "upstream: app " + e.App + ": " + string(e.Op) + " unix:" + e.Socket + ": " + cause(e.Err)
}

// Unwrap returns what the kernel or the rules said.
func (e *Error) Unwrap() error { return e.Err }

// cause is err without the words that the net package puts before an errno.
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	var refusal *message.Refusal
	if errors.As(err, &refusal) {
		return refusal.Cause
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case err == io.EOF:
		return "connection closed"
	}
	return err.Error()
}

// Errno is the kernel's reason, 0 if it gave none.
func (e *Error) Errno() syscall.Errno { return errnoOf(e.Err) }

// errnoOf is the kernel's reason in err, 0 if there is none.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// Status is what the client is told: 503 when the app is there and busy, 504 when
// it took too long, 502 otherwise.
func (e *Error) Status() int {
	reset, _ := errors.AsType[*message.ResetError](e.Err)
	switch {
	case e.Op == Queue, errors.Is(e.Err, syscall.EAGAIN) && e.Op == Connect:
		return 503
	case reset != nil && (reset.Code == message.CodeRefused || reset.Code == message.CodeEnhanceCalm):
		return 503
	case e.Err == h2.ErrNoTunnel:
		return 501
	case errors.Is(e.Err, os.ErrDeadlineExceeded):
		return 504
	}
	return 502
}

// Cause is what failed, in words that can be counted.
func (e *Error) Cause() string {
	switch {
	case errors.Is(e.Err, board.ErrFull):
		return "queue full"
	case e.Op == Queue:
		return "queue time over"
	}
	return "app failed"
}

// hungUp reports whether err is the end of a connection in one of its forms.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Hint is what to do about e, "" when nobody can tell. A core may not look at folders, so
// that what is in the way to a socket is for sallyport check to name.
func (e *Error) Hint() string {
	switch {
	case e.Errno() == syscall.EAGAIN:
		return "the app's backlog is full: give it more workers or a longer backlog"
	case e.Op == Connect:
		return e.hintOfWay()
	case e.hintOfHTTP2() != "":
		return e.hintOfHTTP2()
	case errors.Is(e.Err, ErrSurplus):
		return "its content-length is too small, or a reply that has no body has one: the connection was closed"
	case hungUp(e.Err):
		return "the app closed the connection before it answered: look for a crash or a worker timeout in its log"
	case errors.Is(e.Err, os.ErrDeadlineExceeded):
		return "raise timeout.first_byte or timeout.idle of the app, if it needs that long"
	}
	return ""
}

// hintOfHTTP2 is Hint where the app was spoken to in HTTP/2.
func (e *Error) hintOfHTTP2() string {
	const other = `: take protocol = "h2c" out of the app, or have it speak HTTP/2 without TLS`
	reset, _ := errors.AsType[*message.ResetError](e.Err)
	_, silent := errors.AsType[*h2.GreetingError](e.Err)
	switch {
	case errors.Is(e.Err, message.ErrSpeaksHTTP1):
		return "the app speaks HTTP/1" + other
	case silent:
		return "the app has not said a word of HTTP/2" + other
	case reset != nil && reset.Code == message.CodeHTTP1:
		return "the app wants to be asked by HTTP/1" + other
	case reset != nil && reset.Code == message.CodeRefused:
		return "the app has more at a time than it takes: set max_inflight to what that is"
	case reset != nil:
		return "the app gave the request up: look for the reason in its log"
	case e.Err == h2.ErrNoTunnel:
		return `the app takes no WebSockets by HTTP/2 (RFC 8441): lead their path to an app without protocol = "h2c"`
	}
	return ""
}

// hintOfWay is Hint where the socket could not be reached.
func (e *Error) hintOfWay() string {
	switch e.Errno() {
	case syscall.ENOENT:
		return "there is no such socket: start the app, or mend the path; sallyport check names the part of it that is missing"
	case syscall.ECONNREFUSED:
		return "nobody listens on this socket: start the app again; if it refuses because the file is there: rm " + e.Socket
	case syscall.EACCES, syscall.EPERM:
		return "sallyport check goes there as the core does, and says the command that lets it in"
	}
	return ""
}
