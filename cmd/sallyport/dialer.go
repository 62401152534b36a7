package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// A dialer connects to apps for cores that cannot: because the socket is in a folder that
// is not to be seen by them, or because the machine lets nobody build them a root.
//
//	core ──── Dial: the number of a socket ────► dialer
//	  └◄── Dialed: the connection, or the errno ────┘
//
// # Security
//
// It has no file, no network and no capability, and reads messages of eight bytes from
// cores, which may be anybody's by then. What it can be made to do is to connect to one of
// the sockets of the plan, which is what a core is there for. It has 37 system calls.
type dialer struct {
	log   *slog.Logger
	lists lists

	links sync.WaitGroup // of cores that live
	ended chan struct{}  // closed when TERM has come and the last link has gone
}

// A dialTarget is a socket of the plan.
type dialTarget struct {
	Path   string
	Folder string `json:",omitempty"` // gift, if boot has opened it; else Path leads there
}

// dialerCommand is the whole life of a dialer:
//
//	sallyport dialer --gifts sockets,adopt,link0,...,ready
//
// On TERM it ends when the last core has: those that drain still need it.
func dialerCommand(args []string) int {
	log := newLog(os.Stderr)
	d := &dialer{log: log, ended: make(chan struct{})}
	if err := d.begin(args); err != nil {
		log.Error("dialer failed", "error", err)
		return exitMistake
	}
	<-d.ended
	return exitFine
}

// begin takes what the warden gave, and begins to serve.
func (d *dialer) begin(args []string) error {
	if err := jail.Seal(jail.Dialer); err != nil {
		return err
	}
	if len(args) != 2 || args[0] != "--gifts" {
		return errors.New("is started by sallyport run, not by hand")
	}
	gifts, err := sockets.TakeGifts(args[1])
	if err != nil {
		return err
	}
	if err := d.lists.takeAll(gifts); err != nil {
		return err
	}
	var adopt *os.File
	ready := -1
	for _, gift := range gifts {
		switch {
		case gift.Name == "adopt":
			adopt, err = pollable(gift.FD, gift.Name)
		case gift.Name == "ready":
			ready = gift.FD
		}
		if err != nil {
			return err
		}
	}
	if adopt == nil || ready < 0 {
		return errors.New("has not all of its gifts")
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	d.links.Add(1) // that of the warden, until TERM
	go d.termLoop(terms)
	if err := jail.Confine(jail.Dialer); err != nil {
		return err
	}
	for _, gift := range gifts {
		var row, table int
		if strings.HasPrefix(gift.Name, "link") {
			if n, _ := fmt.Sscanf(gift.Name, "link%d-%d", &row, &table); n < 2 {
				table = sockets.FirstTable
			}
			d.adopt(gift.FD, table)
		}
	}
	go d.adoptLoop(adopt)
	if _, err := unix.Write(ready, []byte("r")); err != nil {
		return err
	}
	return unix.Close(ready)
}

// termLoop ends when the service does, or with the process.
func (d *dialer) termLoop(terms <-chan os.Signal) {
	<-terms
	d.links.Done()
	d.links.Wait()
	close(d.ended)
}

// adoptLoop takes the links of new cores, and the lists of new plans. It ends with the warden.
func (d *dialer) adoptLoop(adopt *os.File) {
	buffer := make([]byte, sockets.AdoptionBytesMax)
	for {
		message, descriptors, err := receiveOn(adopt, buffer)
		if err != nil {
			return
		}
		if sockets.IsKeeping(message) {
			err = d.lists.keep(message, descriptors)
		} else {
			var a sockets.Adoption
			if a, err = sockets.ParseAdoption(message); err == nil && len(descriptors) == 1 {
				d.adopt(descriptors[0], a.Table)
				continue
			}
			sockets.CloseAll(descriptors)
		}
		if err != nil {
			d.log.Error("not adopted", "error", err) // nobody but the warden has the other end
		}
	}
}

// adopt serves the link of a core that knows the sockets by a list.
func (d *dialer) adopt(fd, list int) {
	link, err := pollable(fd, "link")
	if err != nil {
		d.log.Error("link not adopted", "error", err)
		return
	}
	d.links.Add(1)
	go d.linkLoop(link, d.lists.of(list))
}

// linkLoop serves one core until that one has ended, or asks for what there is not.
func (d *dialer) linkLoop(link *os.File, targets []dialTarget) {
	defer d.links.Done()
	defer link.Close()
	buffer := make([]byte, sockets.DialBytes)
	err := sendOn(link, sockets.Dialed{Tag: sockets.TagHello}.Append(buffer[:0]))
	for err == nil {
		var message []byte
		var descriptors []int
		if message, descriptors, err = receiveOn(link, buffer); err != nil {
			return
		}
		sockets.CloseAll(descriptors) // there are none, but of a core that is not ours any more
		var asked sockets.Dial
		if asked, err = sockets.ParseDial(message, len(targets)); err != nil {
			d.log.Error("link cut", "event", "security", "error", err, "reason", "a core has sent what no core sends")
			return
		}
		err = connectFor(link, targets[asked.Member].Path, asked.Tag, buffer)
	}
}

// connectFor connects, and answers. It does not wait for the app: a full backlog is EAGAIN.
func connectFor(link *os.File, path string, tag uint32, buffer []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	errno, known := errors.AsType[unix.Errno](err)
	if err != nil && !known {
		errno = unix.EINVAL // the path is too long, by package unix's own word
	}
	answer := sockets.Dialed{Tag: tag, Errno: errno}.Append(buffer[:0])
	if err != nil {
		return sendOn(link, answer)
	}
	return sendOn(link, answer, fd)
}

// sendOn sends a message when there is room for it, without a thread.
func sendOn(socket *os.File, message []byte, descriptors ...int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = sockets.Send(int(fd), message, descriptors...)
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}
