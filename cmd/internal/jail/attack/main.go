//go:build drill && amd64

// Attack is a core that has been taken over, or a keeper, or a warden. It goes through the
// door as that does, Seals and Confines itself, and then tries one thing that a core
// must not be able to do.
//
//	sallyport stage report,listener,...,stage-program STAGE "" attack ROLE NAME GIFTS SCENE APPS
//	attack list
//
// What came of it is one line on the gift "report": OPEN, or the name of an errno. Without
// a line it has been killed, or is another program now. Started by a warden, with the
// arguments of a core, it says that it is ready and executes a shell.
//
// # Security
//
// It is built with the tag drill alone, and is no part of a release.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// An attempt is one thing that a core must not be able to do. Its error is the kernel's;
// nil is a success of the attacker.
type attempt struct {
	name string
	try  func(s *scene) error
}

// attempts are all of them, by what they are after.
func attempts() (all []attempt) {
	for _, some := range [][]attempt{
		reading(), changing(), mounting(), executing(), remembering(), becoming(),
		killing(), spying(), connecting(), misusing(), setting(), passing(), reaching(), waiting(),
	} {
		all = append(all, some...)
	}
	return all
}

func main() {
	runtime.LockOSThread()
	if len(os.Args) == 2 && os.Args[1] == "list" {
		for _, a := range attempts() {
			fmt.Println(a.name)
		}
		return
	}
	if err := act(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

// act is the life of one attacker.
func act(args []string) error {
	if len(args) > 1 && args[0] == "--gifts" {
		return actInService(args[1])
	}
	if len(args) != 5 {
		return errors.New("is started by its tests")
	}
	role := jail.Role(args[0])
	if err := jail.Seal(role); err != nil {
		return err
	}
	gifts, err := sockets.TakeGifts(args[2])
	if err != nil {
		return err
	}
	s := &scene{gifts: gifts}
	if err := json.Unmarshal([]byte(args[3]), &s.Place); err != nil {
		return err
	}
	if err := s.confine(role, args[4]); err != nil {
		return err
	}
	for _, a := range attempts() {
		if a.name == args[1] {
			return s.report(a.try(s))
		}
	}
	return fmt.Errorf("no attempt %q", args[1])
}

// slot is the number of a UDP socket, as cores with HTTP/3 have one. No other descriptor has it.
const slot = 1 << 16

// confine lays the filter that a process of the role has. For a core that comes to apps by
// the dialer it is another one.
func (s *scene) confine(role jail.Role, apps string) error {
	switch {
	case role != jail.Core:
		return jail.Confine(role)
	case strings.Contains(apps, "dialer"):
		return jail.ConfineCore(jail.Ways{Dialer: s.fd("dialer"), Slots: []int{slot}})
	}
	return jail.ConfineCore(jail.Ways{Connects: true, Dialer: s.fd("dialer"), Slots: []int{slot}})
}

// actInService is ready, and then does what kills.
func actInService(names string) error {
	if err := jail.Seal(jail.Core); err != nil {
		return err
	}
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	if err := jail.ConfineCore(jail.Ways{Connects: true}); err != nil {
		return err
	}
	ready, err := gifts.FD("ready")
	if err == nil {
		_, err = unix.Write(ready, []byte("r"))
	}
	if err != nil {
		return err
	}
	s := &scene{gifts: gifts}
	listener := uintptr(s.fd("http0"))
	switch deed {
	case "":
		return s.execute("/bin/true")
	case "disconnect":
		err = call(unix.SYS_CONNECT, listener, s.port(unix.AF_UNSPEC), addressLength)
	case "deafen":
		err = call(unix.SYS_SHUTDOWN, listener, unix.SHUT_RDWR)
	}
	fmt.Fprintf(os.Stderr, `{"message":"deed done","at":%d,"error":"%v"}`+"\n", time.Now().UnixMilli(), err)
	for {
		_ = unix.Nanosleep(&unix.Timespec{Sec: 3600}, nil) // it stays
	}
}

// deed is what an attacker does that is started by a warden, "" to execute a shell; set by
// the linker.
var deed string
