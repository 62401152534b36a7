package sockets

import (
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newLink(t *testing.T) (a, b int) {
	t.Helper()
	a, b, err := Link()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll([]int{a, b}) })
	return a, b
}

func TestLinkKeepsMessagesApart(t *testing.T) {
	a, b := newLink(t)
	for _, message := range []string{"one", "two"} {
		if err := Send(a, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 16)
	for _, want := range []string{"one", "two"} {
		n, descriptors, err := Receive(b, buffer)
		if err != nil || string(buffer[:n]) != want || descriptors != nil {
			t.Errorf("%q, %v, %v; want %q", buffer[:n], descriptors, err, want)
		}
	}
}

func TestLinkPassesDescriptors(t *testing.T) {
	a, b := newLink(t)
	fd, err := Seal("test", []byte("passed"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := Send(a, []byte("two"), fd, fd); err != nil {
		t.Fatal(err)
	}
	_, descriptors, err := Receive(b, make([]byte, 16))
	if err != nil || len(descriptors) != 2 {
		t.Fatalf("%v, %v", descriptors, err)
	}
	defer CloseAll(descriptors)
	for _, got := range descriptors {
		content, err := ReadSealed(got)
		if err != nil || string(content) != "passed" {
			t.Errorf("%q, %v", content, err)
		}
		if flags, _ := unix.FcntlInt(uintptr(got), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC {
			t.Errorf("descriptor %d: flags %d", got, flags)
		}
	}
}

func TestLinkEnds(t *testing.T) {
	a, b := newLink(t)
	if err := unix.Shutdown(a, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Receive(b, make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("receive: %v", err)
	}
	if err := Send(b, []byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("send: %v", err)
	}
}

func TestLinkRefuses(t *testing.T) {
	a, b := newLink(t)
	if err := Send(a, nil); err == nil {
		t.Error("an empty message was sent")
	}
	if err := Send(a, []byte("x"), make([]int, passedMax+1)...); err == nil {
		t.Error("too many descriptors were sent")
	}
	// A message that is too long is refused, and what came with it is closed.
	if err := Send(a, []byte("too long"), a); err != nil {
		t.Fatal(err)
	}
	before := lowestFree(t)
	if _, _, err := Receive(b, make([]byte, 3)); err == nil || !strings.HasSuffix(err.Error(), "too long") {
		t.Errorf("%v", err)
	}
	if after := lowestFree(t); after != before {
		t.Errorf("descriptor %d is still open", before)
	}
}

// TestLinkRefusesTooManyDescriptors shows that a peer who passes more than there
// is room for leaves none behind.
func TestLinkRefusesTooManyDescriptors(t *testing.T) {
	a, b := newLink(t)
	before := lowestFree(t)
	if err := unix.Sendmsg(a, []byte("x"), unix.UnixRights(make([]int, passedMax+10)...), nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, descriptors, err := Receive(b, make([]byte, 16)); err == nil || descriptors != nil {
		t.Errorf("%v, %v", descriptors, err)
	}
	if after := lowestFree(t); after != before {
		t.Errorf("descriptor %d is still open", before)
	}
}

// lowestFree is the number that the next descriptor would have.
func lowestFree(t *testing.T) int {
	t.Helper()
	fd, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	return fd
}
