package upstream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"sallyport/proxy/message"
)

func TestError(t *testing.T) {
	for _, test := range []struct {
		op     Op
		err    error
		text   string
		errno  syscall.Errno
		status int
		hint   string
	}{
		{Connect, syscall.ENOENT, "no such file or directory", syscall.ENOENT, 502, "there is no such socket"},
		{Connect, syscall.ECONNREFUSED, "connection refused", syscall.ECONNREFUSED, 502, "rm /run/s"},
		{Connect, syscall.EACCES, "permission denied", syscall.EACCES, 502, "sallyport check"},
		{Connect, syscall.EAGAIN, "resource temporarily unavailable", syscall.EAGAIN, 503, "backlog is full"},
		{Send, syscall.EPIPE, "broken pipe", syscall.EPIPE, 502, "closed the connection"},
		{Read, syscall.ECONNRESET, "connection reset by peer", syscall.ECONNRESET, 502, "closed the connection"},
		{Read, io.EOF, "connection closed", 0, 502, "closed the connection"},
		{Read, os.ErrDeadlineExceeded, "no answer in time", 0, 504, "raise timeout"},
		{Read, message.ErrLengthTwice, "more than one content-length", 0, 502, ""},
		{Read, errors.New("other"), "other", 0, 502, ""},
	} {
		for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err)} {
			e := &Error{App: "shop", Socket: "/run/s", Op: test.op, Err: err}
			if want := "upstream: app shop: " + string(test.op) + " unix:/run/s: "; !strings.HasPrefix(e.Error(), want) ||
				err == test.err && e.Error() != want+test.text {
				t.Errorf("%v", e)
			}
			if e.Errno() != test.errno || e.Status() != test.status || !strings.Contains(e.Hint(), test.hint) || (e.Hint() == "") != (test.hint == "") {
				t.Errorf("%v: %v %d %q", e, e.Errno(), e.Status(), e.Hint())
			}
		}
	}
}
