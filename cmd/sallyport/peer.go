package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"sallyport/conf"
)

// This file finds who listens behind the sockets of apps. The status command does, with
// the rights of whoever runs it, by connecting to each and closing at once: an app sees a
// connection without a request. Nobody else has to be believed.

// A peerStatus is who called listen(2) on a socket: SO_PEERCRED of a connection to it,
// unix(7). That is the app, or who has made the socket for it: a supervisor (systemd), or a
// master that has changed its user since. What is not known is 0, -1 or "".
type peerStatus struct {
	PID     int    `json:"pid"`     // 0 also for one in another pid namespace
	UID     int    `json:"uid"`     // at the time of listen(2)
	User    string `json:"user"`    // name of that account on this machine
	Command string `json:"command"` // of the process that has the pid now, cut
	Why     string `json:"why,omitempty"`
}

// commandMax bounds the command of a process, in bytes.
const commandMax = 120

// findPeers finds those of all members. One that refuses us and no request yet is absent.
func (s *status) findPeers() {
	accounts, _ := conf.ReadAccounts(os.ReadFile) // names are a kindness: without them there are numbers
	for _, app := range s.Apps {
		for i := range app.Members {
			m := &app.Members[i]
			peer, err := peerOf(m.Socket)
			if err != nil {
				m.Peer = &peerStatus{UID: -1, Why: peerWhy(err)}
				if m.State == memberUp && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)) {
					m.State, m.Why = memberAbsent, "connect: "+m.Peer.Why
				}
				continue
			}
			m.Peer = &peerStatus{PID: int(peer.Pid), UID: int(peer.Uid), Command: commandOf(int(peer.Pid))}
			if at := slices.IndexFunc(accounts.Users, func(a conf.Account) bool { return a.UID == m.Peer.UID }); at >= 0 {
				m.Peer.User = accounts.Users[at].Name
			}
		}
	}
}

// peerOf asks the kernel who listens at a path. It does not wait: a full backlog is EAGAIN.
func peerOf(path string) (*unix.Ucred, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
}

// peerWhy is why a peer is not visible.
func peerWhy(err error) string {
	if errors.Is(err, unix.EAGAIN) {
		return "its backlog is full"
	}
	return err.Error()
}

// commandOf is the command line of a process, "" where it is not to be seen. It is the
// process's own word, made fit for a terminal.
func commandOf(pid int) string {
	if pid == 0 {
		return ""
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return plainCommand(text)
}

// plainCommand is a command line of proc_pid_cmdline(5) on one line, without what a
// terminal would obey.
func plainCommand(text []byte) string {
	cut := len(text) > commandMax
	if cut {
		text = text[:commandMax]
	}
	plain := strings.Map(func(r rune) rune {
		switch {
		case r == 0:
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
	plain = strings.TrimRight(plain, " ")
	if cut {
		plain += "..."
	}
	return plain
}

// columns are pid, user and command, for people.
func (p *peerStatus) columns() string {
	const unknown = "not visible"
	switch {
	case p == nil:
		return unknown
	case p.UID < 0:
		return "-\t-\t" + unknown + ": " + p.Why
	}
	pid, user, command := unknown, strconv.Itoa(p.UID), unknown
	if p.PID != 0 {
		pid = strconv.Itoa(p.PID)
	}
	if p.User != "" {
		user = p.User + " (" + user + ")"
	}
	if p.Command != "" {
		command = p.Command
	}
	return pid + "\t" + user + "\t" + command
}
