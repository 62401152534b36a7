package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// A mason builds the root of the cores, in namespaces of its own, and keeps it: for each
// folder of app sockets there is one in the root, at the same path, and what is mounted
// there, read-only, is what the path leads to now. An app's folder that was made
// anew, by systemd or by a link that points to the next release, is seen by every
// core within a second, without another core.
//
//	main warden ◄── news: the root's folder, or that there is none; that the dialer is needed
//	     └─ leash ──► mason ──► a forked child for each change, in the namespaces
//
// # Security
//
// It has the uid of the cores, no capability, no network, and reads nothing from anybody
// but its part of the plan and the leash. It has not given up files, because who has may
// not mount: it could read what its user can. Its children have capabilities in the namespace
// that holds the root, and are made of calls that it has listed before it forks.
type mason struct {
	log     *slog.Logger
	news    *os.File         // link to the main warden
	lists   map[int][]string // sockets, by the number of their plan
	folders []*folder        // of all of them
	dialed  time.Time        // when the dialer was asked for; zero: it was not

	root int // the folder that cores enter; -1: there is none
	user int // namespaces of the root
	mnt  int

	lively time.Time // until when it looks often: something has changed
}

const (
	// masonCalm is how often folders are looked at, and masonLively how often while
	// something has just changed, or is about to.
	masonCalm   = time.Second
	masonLively = 50 * time.Millisecond
	// masonTime is how long it stays lively.
	masonTime = 10 * time.Second
	// dialerTime is how long a dialer that was asked for may take to be there. A folder that
	// is not to be seen any more stays for so long: cores have no other way to its sockets.
	dialerTime = 2 * time.Second
)

// What the mason says. The first message is one of the first two.
const (
	newsRoot = "root" // with its folder
	newsNone = "none" // this machine lets no user make namespaces
	newsDial = "dial" // an app's socket is in a folder that is not to be seen by cores
)

// masonCommand is the whole life of a mason:
//
//	sallyport mason GIFTS MEANS
func masonCommand(args []string) int {
	log := newLog(os.Stderr)
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2) // the leash says when
	m, leash, err := newMason(args, log)
	if err == nil {
		err = m.begin()
	}
	if err != nil {
		log.Error("mason failed", "error", err)
		return exitMistake
	}
	if m.root < 0 {
		return exitFine
	}
	orders := make(chan order)
	heard := make(chan listing)
	go m.listLoop(heard)
	go leashLoop(leash, leashed{orders: orders})
	m.keepLoop(orders, heard)
	return exitFine
}

// newMason takes what boot has left, and builds the root: whoever cannot be looked at any
// more cannot name the ids of a namespace either, so that Seal comes after that.
func newMason(args []string, log *slog.Logger) (*mason, *os.File, error) {
	if len(args) != 2 {
		return nil, nil, errors.New("is started by sallyport run, not by hand")
	}
	gifts, err := sockets.TakeGifts(args[0])
	if err != nil {
		return nil, nil, err
	}
	m := &mason{log: log, root: -1}
	var hold, news int
	for name, fd := range map[string]*int{"leash": &hold, "news": &news} {
		if *fd, err = gifts.FD(name); err != nil {
			return nil, nil, err
		}
	}
	list, err := gifts.FD("sockets")
	if err != nil {
		return nil, nil, err
	}
	paths, err := readPaths([]int{list})
	if err != nil {
		return nil, nil, err
	}
	m.lists, m.folders = map[int][]string{sockets.FirstTable: paths}, foldersOf(paths)
	if m.news, err = pollable(news, "main warden"); err != nil {
		return nil, nil, err
	}
	hint, built := m.buildFor(means(args[1]))
	if err := jail.Seal(jail.Mason); err != nil {
		return nil, nil, err
	}
	if built != nil {
		log.Info("no root for cores", "reason", built.Error(), "hint", hint)
	}
	name, err := unix.BytePtrFromString("sallyport")
	if err != nil {
		return nil, nil, err
	}
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0) // for people who look
	leash, err := pollable(hold, "leash")
	return m, leash, err
}

// buildFor is build where the start had some means, and what to do if there is no root. "Executing
// a program that ... has any file capabilities set will clear the ambient set", capabilities(7):
// a stage could not enter it.
func (m *mason) buildFor(by means) (hint string, err error) {
	const having = "the dialer connects for them, at some 0.1 ms each; to have the root: "
	if by == meansFile {
		return having + "setcap -r", errors.New("this program has a file capability")
	}
	return having + "sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0", m.build()
}

// foldersOf are the folders of sockets.
func foldersOf(paths []string) (folders []*folder) {
	for _, path := range paths {
		dir, name := filepath.Split(path)
		dir = filepath.Clean(dir)
		at := slices.IndexFunc(folders, func(f *folder) bool { return f.path == dir })
		if at < 0 {
			at = len(folders)
			folders = append(folders, &folder{path: dir})
		}
		folders[at].names = append(folders[at].names, name)
	}
	return folders
}

// begin mounts what is there, and tells the main warden.
func (m *mason) begin() error {
	if m.root < 0 {
		return sendOn(m.news, []byte(newsNone))
	}
	m.lively = time.Now().Add(masonTime)
	m.keep()
	err := sendOn(m.news, []byte(newsRoot), m.root)
	if err == nil {
		err = m.askForDialer()
	}
	return err
}

// keepLoop keeps the root until the leash says that it is over.
func (m *mason) keepLoop(orders <-chan order, heard <-chan listing) {
	for {
		pause := masonCalm
		if time.Now().Before(m.lively) {
			pause = masonLively
		}
		select {
		case <-orders:
			return
		case l := <-heard:
			m.follow(l)
		case <-time.After(pause):
		}
		m.keep()
		if err := m.askForDialer(); err != nil {
			m.log.Error("mason not heard", "error", err) // the main warden is gone, and so is the leash
		}
	}
}

// keep has the root be as the folders are.
func (m *mason) keep() {
	survey := surveyOf(m.folders)
	for i, f := range m.folders {
		v := survey[i]
		err := m.settle(f, &v)
		if err != nil {
			v.way, v.reason = byDialer, err.Error()
		}
		if v.way != f.way {
			m.lively = time.Now().Add(masonTime)
		}
		if v.way == byDialer && v.reason != f.reason {
			m.log.Info("app folder reached by the dialer", "folder", f.path, "reason", v.reason)
		}
		f.way, f.reason = v.way, v.reason
	}
}

// settle mounts a folder, or what it has become, or takes it away.
func (m *mason) settle(f *folder, v *view) error {
	switch {
	case v.way == byRoot && f.mounted != v.id && (f.refused != v.id || f.refused == fileID{}):
		again := f.mounted != fileID{}
		f.mounted = fileID{}
		if err := m.mount(f.path, v, again); err != nil {
			f.refused = v.id
			return err
		}
		f.mounted = v.id
	case v.way == byRoot && f.mounted != v.id:
		return errors.New(f.reason) // as before
	case v.way == byDialer && f.mounted != fileID{} && !m.dialed.IsZero() && time.Since(m.dialed) > dialerTime:
		f.mounted = fileID{}
		return errors.Join(errors.New(v.reason), m.unmount(f.path))
	}
	return nil
}

// askForDialer tells the main warden, once, that cores cannot do without the dialer.
func (m *mason) askForDialer() error {
	if !m.dialed.IsZero() || !slices.ContainsFunc(m.folders, func(f *folder) bool { return f.way == byDialer }) {
		return nil
	}
	m.dialed = time.Now()
	return sendOn(m.news, []byte(newsDial))
}

// rootAt is where the root is in the mason's namespace: on a folder that every machine has, and
// nobody's socket is in.
const rootAt = "/proc"

const (
	mountBare = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mountBind = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | mountBare
)

// build makes the root, with an empty folder at the path of each.
func (m *mason) build() error {
	var e jail.Errand
	identity := fmt.Sprintf("%d %d 1", unix.Getuid(), unix.Getuid())
	group := fmt.Sprintf("%d %d 1", unix.Getgid(), unix.Getgid())
	e.Write("/proc/self/setgroups", "deny") // or the next but one is refused, user_namespaces(7)
	e.Write("/proc/self/uid_map", identity)
	e.Write("/proc/self/gid_map", group)
	e.Open("/proc/self/ns/user", unix.O_RDONLY)
	e.Open("/proc/self/ns/mnt", unix.O_RDONLY)
	e.Do("mount tmpfs", unix.SYS_MOUNT, e.Text("tmpfs"), e.Text(rootAt), e.Text("tmpfs"), mountBare, e.Text("size=64k,mode=0555"))
	for _, path := range m.points() {
		e.Do("mkdir "+path, unix.SYS_MKDIRAT, 0, e.Text(rootAt+path), 0o555)
	}
	e.Do("remount tmpfs", unix.SYS_MOUNT, 0, e.Text(rootAt), 0, mountBind, 0)
	e.Open(rootAt, unix.O_PATH|unix.O_DIRECTORY)
	e.Do("chroot", unix.SYS_CHROOT, e.Text(rootAt)) // as cores do: containers may refuse it to all
	opened, err := e.Run(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)
	if err != nil {
		sockets.CloseAll(opened)
		return err
	}
	sockets.CloseAll(opened[:3])
	m.user, m.mnt, m.root = opened[3], opened[4], opened[5]
	return nil
}

// points are the folders of the root, those above before those below.
func (m *mason) points() (points []string) {
	for _, f := range m.folders {
		for at := 1; at <= len(f.path); at++ {
			if at == len(f.path) || f.path[at] == '/' {
				points = append(points, f.path[:at])
			}
		}
	}
	slices.Sort(points)
	points = slices.Compact(points)
	return slices.DeleteFunc(points, func(p string) bool { return p == "/" })
}

// mount has the folder at path in the root be what was found, instead of what it was. What
// is mounted since the root was built may not be seen in its namespace, and what was found
// may be gone by now: another folder is not left there.
func (m *mason) mount(path string, v *view, again bool) error {
	e := m.inside()
	at := e.Text(rootAt + path)
	if again {
		e.Do("umount "+path, unix.SYS_UMOUNT2, at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	e.Do("bind "+v.source, unix.SYS_MOUNT, e.Text(v.source), at, 0, unix.MS_BIND, 0)
	e.Do("restrict "+path, unix.SYS_MOUNT, 0, at, 0, mountBind, 0)
	if err := m.send(e); err != nil {
		return err
	}
	var stat syscall.Stat_t
	inRoot := fmt.Sprintf("/proc/self/fd/%d%s", m.root, path)
	if err := syscall.Stat(inRoot, &stat); err != nil || idOf(&stat) != v.id {
		return errors.Join(errors.New("what can be mounted there is another folder"), err, m.unmount(path))
	}
	return nil
}

// unmount leaves the folder at path empty.
func (m *mason) unmount(path string) error {
	e := m.inside()
	e.Do("umount "+path, unix.SYS_UMOUNT2, e.Text(rootAt+path), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	return m.send(e)
}

// inside is an errand in the namespaces of the root.
func (m *mason) inside() *jail.Errand {
	e := new(jail.Errand)
	e.Do("enter the user namespace", unix.SYS_SETNS, uintptr(m.user), unix.CLONE_NEWUSER)
	e.Do("enter the mount namespace", unix.SYS_SETNS, uintptr(m.mnt), unix.CLONE_NEWNS)
	return e
}

// send runs it. A bind that is there and not read-only is taken away again.
func (m *mason) send(e *jail.Errand) error {
	_, err := e.Run(0)
	if failed, ok := errors.AsType[*jail.ErrandError](err); ok && strings.HasPrefix(failed.What, "restrict ") {
		return errors.Join(err, m.unmount(strings.TrimPrefix(failed.What, "restrict ")))
	}
	return err
}

// A fileID says whether two paths lead to the same file.
type fileID struct{ dev, ino uint64 }

func idOf(stat *syscall.Stat_t) fileID { return fileID{stat.Dev, stat.Ino} }
