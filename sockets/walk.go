package sockets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// An Obstacle is the first thing on the way to an app's socket that the caller
// cannot get past, and the smallest change that lets him.
type Obstacle struct {
	Path  string // the component, links resolved
	Mode  uint32 // permission bits, of what is there; 0 if nothing is
	UID   int    // its owner; -1 if nothing is there
	GID   int
	Errno unix.Errno
	What  string // "uid 60578 may not enter this folder"
	Fix   string // a command where one will do, else a sentence
	Keep  string // how the fix outlasts the app's next start; "" if it does
}

func (o *Obstacle) Error() string {
	if o.UID < 0 {
		return fmt.Sprintf("%s: %s (%s)", o.Path, o.What, unix.ErrnoName(o.Errno))
	}
	return fmt.Sprintf("%s: %s (%s; mode %04o, owner %d:%d)", o.Path, o.What, unix.ErrnoName(o.Errno), o.Mode, o.UID, o.GID)
}

// Unwrap returns the errno.
func (o *Obstacle) Unwrap() error { return o.Errno }

// linksMax is how many symbolic links a path may lead through, as for the kernel
// (path_resolution(7)).
const linksMax = 40

// Walk goes to the socket at path, component by component, with the rights of the
// calling thread, and connects to it. It returns what stopped it, or nil.
//
// It asks the kernel at each step instead of computing with mode bits, so that
// ACLs, read-only mounts and security modules count.
func Walk(path string) *Obstacle {
	links := 0
	walked, rest := "/", strings.Trim(filepath.Clean(path), "/")
	for rest != "" {
		if o := mayEnter(walked); o != nil {
			return o
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := filepath.Join(walked, name)
		var stat unix.Stat_t
		if err := unix.Lstat(next, &stat); err != nil {
			return absent(next, rest, err)
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			walked = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > linksMax {
			return found(next, &stat, unix.ELOOP, "links lead in a circle", "write the path of the socket itself")
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(walked, target)
		}
		walked, rest = "/", strings.Trim(filepath.Join(target, rest), "/")
	}
	return mayConnect(walked)
}

// mayEnter asks for the x of a folder.
func mayEnter(folder string) *Obstacle {
	var stat unix.Stat_t
	if err := unix.Stat(folder, &stat); err != nil {
		return absent(folder, "", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return found(folder, &stat, unix.ENOTDIR, "is no folder", "write the path of the socket, and nothing behind it")
	}
	err := unix.Faccessat(unix.AT_FDCWD, folder, unix.X_OK, unix.AT_EACCESS)
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("uid %d may not enter this folder", unix.Geteuid())
	return found(folder, &stat, errnoOf(err), what, grant(folder, &stat, unix.X_OK))
}

// mayConnect asks for the w of a socket (unix(7): "connecting to the socket object
// requires write permission"), and for somebody who listens.
func mayConnect(path string) *Obstacle {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return absent(path, "", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return found(path, &stat, unix.ENOTSOCK, "is no socket", "write the path of the socket that the app makes")
	}
	err := connectOnce(path)
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN): // a full backlog is somebody who listens
		return nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		what := fmt.Sprintf("uid %d may not write to this socket", unix.Geteuid())
		o := found(path, &stat, errnoOf(err), what, grant(path, &stat, unix.W_OK))
		o.Keep = "the app makes the socket anew: gunicorn --umask 0, puma -b unix://" + path + "?umask=0, UMask=0 of a systemd unit"
		return o
	case errors.Is(err, unix.ECONNREFUSED):
		return found(path, &stat, unix.ECONNREFUSED, "nobody listens on this socket: it is left from an app that ended",
			"start the app again; if it refuses because the file is there: rm "+path)
	}
	return found(path, &stat, errnoOf(err), "cannot be connected to", "look for the reason in the app's log")
}

func connectOnce(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// grant is the command that gives the calling thread a right on path: to the
// owner if the caller is it, by the group if that has the right already, else to
// all. x on a folder lets others through, not look around; w on a socket lets
// others speak to the app, as every client can.
func grant(path string, stat *unix.Stat_t, right uint32) string {
	letter := map[uint32]string{unix.X_OK: "x", unix.W_OK: "w"}[right]
	switch {
	case int(stat.Uid) == unix.Geteuid():
		return "chmod u+" + letter + " " + path
	case stat.Mode>>3&right != 0 && int(stat.Gid) != unix.Getegid():
		return fmt.Sprintf("chgrp %d %s", unix.Getegid(), path)
	case int(stat.Gid) == unix.Getegid():
		return "chmod g+" + letter + " " + path
	}
	return "chmod o+" + letter + " " + path
}

// absent is the Obstacle of a component that cannot be looked at.
func absent(path, rest string, err error) *Obstacle {
	o := &Obstacle{Path: path, UID: -1, GID: -1, Errno: errnoOf(err)}
	switch {
	case o.Errno != unix.ENOENT:
		o.What, o.Fix = "cannot be looked at", "look at it as root: ls -ld "+path
	case rest != "":
		o.What, o.Fix = "there is no such folder", "make it, owned by the app's user; under systemd: RuntimeDirectory="+filepath.Base(path)
	default:
		o.What, o.Fix = "there is no such socket", "start the app, or write the path that it listens on"+others(filepath.Dir(path))
	}
	if unit := privateTmp(path); unit != "" {
		o.What = "is in the private /tmp of " + unit
		o.Fix = "let the app make its socket in /run/" + strings.TrimSuffix(unit, ".service") + " (RuntimeDirectory=), and write that path here"
	}
	return o
}

func found(path string, stat *unix.Stat_t, errno unix.Errno, what, fix string) *Obstacle {
	return &Obstacle{
		Path: path, Mode: stat.Mode & 0o7777, UID: int(stat.Uid), GID: int(stat.Gid),
		Errno: errno, What: what, Fix: fix,
	}
}

// others names the sockets that are there instead: most wrong paths are nearly right.
func others(folder string) string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return ""
	}
	var names []string
	for _, entry := range entries {
		if entry.Type()&os.ModeSocket != 0 && len(names) < 5 {
			names = append(names, filepath.Join(folder, entry.Name()))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; there is " + strings.Join(names, ", ")
}

// privateTmp is the unit whose own /tmp has what is looked for in the common one.
// systemd names such folders systemd-private-BOOTID-UNIT-RANDOM (systemd.exec(5),
// PrivateTmp=); only root can look into them.
func privateTmp(path string) string {
	for _, tmp := range []string{"/tmp", "/var/tmp"} {
		inner, ok := strings.CutPrefix(path, tmp+"/")
		if !ok {
			continue
		}
		matches, _ := filepath.Glob(tmp + "/systemd-private-*/tmp/" + quoteGlob(inner)) // the pattern is well formed
		for _, match := range matches {
			name := strings.TrimPrefix(strings.Split(match, "/")[len(strings.Split(tmp, "/"))], "systemd-private-")
			if _, unit, ok := strings.Cut(name, "-"); ok {
				if i := strings.LastIndexByte(unit, '-'); i > 0 {
					return unit[:i]
				}
			}
		}
	}
	return ""
}

// quoteGlob makes a path that filepath.Glob takes literally.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
