package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is boot's part of an app that sallyport starts: its socket, its
// program, its environment, and its warden.

// appBacklog is how many connections wait while the app starts or is busy. It is
// what nginx asks for; the rest is to wait where it can be counted.
const appBacklog = 511

// A startable is an app with what boot has made for it.
type startable struct {
	user   conf.Account
	path   string // of the program
	argv   []string
	socket int
	name   string // of the socket, "unix:/..."
}

// makeApps makes the sockets of the apps to start and finds their programs.
func (b *boot) makeApps() []conf.Mistake {
	var mistakes []conf.Mistake
	for i, managed := range b.Plan.Managed {
		app := startable{user: managed.User, argv: managed.Argv}
		var err error
		app.path, err = findAppProgram(managed.Argv[0], os.Getenv("PATH"), managed.User.ID)
		if err == nil {
			path := b.Plan.Core.Apps[managed.App].Sockets[0]
			app.name = "unix:" + path
			app.socket, err = b.makeAppSocket(path, managed.User.UID, b.Entries[i])
		}
		if err != nil {
			mistakes = append(mistakes, mistakeOf(managed.Where, err))
			continue
		}
		b.apps = append(b.apps, app)
	}
	return mistakes
}

// makeAppSocket makes the socket of an app, in a folder of its own that the core
// and the app may enter and neither may change.
func (b *boot) makeAppSocket(path string, owner int, entry []byte) (int, error) {
	folder, who := filepath.Dir(path), b.Plan.Users.Core
	if err := makeRuntimeFolder(filepath.Dir(folder)); err != nil {
		return -1, err
	}
	if err := b.makeAppFolder(folder, entry); err != nil {
		return -1, err
	}
	// Nobody else writes the folder: what is there, a predecessor has given to its app.
	fd, err := sockets.BindPathOver(path, unix.SOCK_STREAM, 0o660)
	switch {
	case errors.Is(err, sockets.ErrAlive):
		return -1, &fileError{path, err, "end the sallyport that has started this app already"}
	case err != nil:
		return -1, &fileError{path: path, err: err}
	}
	err = errors.Join(unix.Lchown(path, owner, who.GID), unix.Listen(fd, appBacklog))
	var refused error
	asErr := jail.As(who, func() { refused = unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) })
	if refused != nil {
		refused = &fileError{path, fmt.Errorf("the core, uid %d, may not go there: %w", who.UID, refused), "chmod o+x " + filepath.Dir(folder)}
	}
	if err = errors.Join(err, asErr, refused); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// makeAppFolder makes the folder of an app's socket, or takes one that is ours already.
func (b *boot) makeAppFolder(path string, entry []byte) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fileError{path: path, err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &fileError{path: path, err: err}
	}
	if int(stat.Uid) != os.Geteuid() {
		return &fileError{path, fmt.Errorf("belongs to uid %d, not to %d", stat.Uid, os.Geteuid()), "remove it"}
	}
	if !b.Plan.Users.Switch {
		return unix.Fchmod(fd, 0o700)
	}
	if err := errors.Join(unix.Fchown(fd, -1, b.Plan.Users.Core.GID), unix.Fchmod(fd, 0o750)); err != nil {
		return err
	}
	err = unix.Fsetxattr(fd, "system.posix_acl_access", entry, 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // where the file system has no ACLs, only what entryOf is for does not work
	}
	return err
}

// entryOf is what adds to a folder of mode 0750 an entry that lets one user through, in
// the form of linux/posix_acl_xattr.h. An app that has the socket's descriptor has no need
// of its path; but Twisted, which is below daphne, sets the mode of what it is given.
func entryOf(uid int) []byte {
	const version, undefined = 2, ^uint32(0)
	acl := binary.LittleEndian.AppendUint32(nil, version)
	for _, entry := range []struct {
		tag, rights uint16
		id          uint32
	}{
		{0x01, 7, undefined},   // the owner
		{0x02, 1, uint32(uid)}, // this user
		{0x04, 5, undefined},   // the group
		{0x10, 5, undefined},   // the most for the two above
		{0x20, 0, undefined},   // others
	} {
		acl = binary.LittleEndian.AppendUint16(acl, entry.tag)
		acl = binary.LittleEndian.AppendUint16(acl, entry.rights)
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	return acl
}

// findAppProgram finds the program of an app as its user would: what he may not
// execute is not there, and neither is a folder of PATH that he may not enter.
func findAppProgram(name, path string, who conf.ID) (found string, err error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if asErr := jail.As(who, func() { found, err = lookUp(name, path, here) }); asErr != nil {
		return "", fmt.Errorf("become uid %d: %w", who.UID, asErr)
	}
	return found, err
}

// lookUp is the search of execvp(3), with the rights of the calling thread. An
// empty or relative folder of PATH does not count: what is in the current folder,
// here, is written with a slash.
func lookUp(name, path, here string) (string, error) {
	if err := unix.Faccessat(unix.AT_FDCWD, here, unix.X_OK, unix.AT_EACCESS); err != nil {
		return "", &fileError{
			here, fmt.Errorf("uid %d may not enter it, and the app runs there: %w", unix.Geteuid(), err),
			"start sallyport in the app's folder",
		}
	}
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(here, name)
		}
		return name, executable(name)
	}
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	for _, folder := range filepath.SplitList(path) {
		if candidate := filepath.Join(folder, name); filepath.IsAbs(folder) && executable(candidate) == nil {
			return candidate, nil
		}
	}
	return "", &fileError{
		name, fmt.Errorf("uid %d finds no such program", unix.Geteuid()),
		"write its whole path, or a PATH that has it; this one is " + path,
	}
}

// executable reports why a file cannot be executed, or nil.
func executable(path string) error {
	var stat unix.Stat_t
	err := unix.Stat(path, &stat)
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
	}
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("is no program")
	}
	if err != nil {
		return &fileError{path, fmt.Errorf("uid %d cannot execute it: %w", unix.Geteuid(), err), "ls -l " + path}
	}
	return nil
}

// startApp starts the warden of an app under the app's uid, and returns the main
// warden's end of its leash.
func (b *boot) startApp(app startable, main *duty) (sockets.Gift, error) {
	switched := b.Plan.Users.Switch
	theirs := duty{
		Name: "app", Who: app.user.ID, Drain: appGrace,
		Wards: []wardPlan{{
			Name: "app", Role: jail.App, Gifts: []passing{{"app", "app"}},
			App: &appPlan{Path: app.path, Argv: app.argv, User: app.user, Switched: switched},
		}},
		Listeners: []listening{{Gift: "app", Address: app.name, Private: true}},
	}
	gifts := sockets.Gifts{{Name: "app", FD: app.socket}, {Name: "stdout", FD: 1}} // where it was closed, Go has opened /dev/null
	return theirs.start(stage{Role: jail.AppWarden, program: jail.Program{Path: selfPath}, gifts: gifts}, main)
}

// appEnvironment is the starter's environment without what was meant for
// sallyport, and for another user without what is about the starter. LISTEN_PID is
// known to the stage alone.
func appEnvironment(all []string, user conf.Account, switched bool) []string {
	kept := []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=app"}
	for _, entry := range all {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", // see above
			"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", // a supervisor talks with us
			"RUNTIME_DIRECTORY", "STATE_DIRECTORY": // ours
			continue
		case "HOME", "USER", "LOGNAME", "SHELL", "MAIL":
			if switched {
				continue
			}
		}
		if switched && (strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "SUDO_")) {
			continue
		}
		kept = append(kept, entry)
	}
	if !switched {
		return kept
	}
	home, shell := user.Home, user.Shell
	if home == "" {
		home = "/"
	}
	if shell == "" {
		shell = "/bin/sh" // "If this field is empty, it defaults to the value /bin/sh", passwd(5)
	}
	kept = append(kept, "HOME="+home, "SHELL="+shell)
	if user.Name != "" {
		kept = append(kept, "USER="+user.Name, "LOGNAME="+user.Name)
	}
	return kept
}
