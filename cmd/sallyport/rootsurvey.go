package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file is which folder may be seen by cores: one that is for the sockets of the plan
// alone. What another one has would be as near to a core as they are.

// A folder is one that sockets of the plan are in.
type folder struct {
	path    string   // as the plan has it
	names   []string // of the sockets
	way     way
	reason  string // why not otherwise
	mounted fileID // what is at its path in the root; zero: nothing
	refused fileID // what could not be mounted, which is not tried again
}

// A way is how cores come to the sockets of a folder.
type way int

const (
	byNone   way = iota // it is not there: nor is the socket
	byRoot              // the folder is in the root
	byDialer            // by the dialer
)

// String is the way for people.
func (w way) String() string {
	switch w {
	case byRoot:
		return "root"
	case byDialer:
		return "dialer"
	}
	return "none yet"
}

// A view is what was found of a folder.
type view struct {
	way    way
	reason string // why by the dialer
	source string // its path, links resolved
	id     fileID
}

// entriesMax bounds a folder that is for sockets.
const entriesMax = 256

// surveyOf looks at all folders, with the rights of the calling thread.
func surveyOf(folders []*folder) []view {
	views, names := make([]view, len(folders)), map[string][]string{}
	for i, f := range folders {
		views[i] = f.find()
		if views[i].way == byRoot { // several paths may lead to one folder
			names[views[i].source] = append(names[views[i].source], f.names...)
		}
	}
	for i := range views {
		if v := &views[i]; v.way == byRoot {
			if v.reason = strangerIn(v.source, names[v.source]); v.reason != "" {
				v.way = byDialer
			}
		}
	}
	return views
}

// find looks where a folder is, and who may make sockets there.
func (f *folder) find() view {
	const shared = "everybody's sockets are there"
	if isShared(f.path) {
		return view{way: byDialer, reason: shared}
	}
	source, err := filepath.EvalSymlinks(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return view{}
	case err != nil:
		return view{way: byDialer, reason: err.Error()}
	case isShared(source):
		return view{way: byDialer, reason: shared}
	}
	entry, err := os.Stat(source)
	if err != nil {
		return view{} // it has just gone
	}
	stat, is := entry.Sys().(*syscall.Stat_t)
	switch {
	case !is || !entry.IsDir():
		return view{}
	case stat.Mode&(unix.S_IWOTH|unix.S_ISVTX) != 0:
		return view{way: byDialer, reason: "everybody may make sockets there"}
	}
	return view{way: byRoot, source: source, id: idOf(stat)}
}

// isShared reports whether a folder is for the sockets of many by its name: those of the
// system, and homes.
func isShared(path string) bool {
	switch path {
	case "/", "/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var", "/var/lib", "/home", "/root", "/srv", "/opt", "/etc", "/usr", "/proc", "/dev":
		return true
	}
	parent := filepath.Dir(path)
	return parent == "/home" || parent == "/run/user" || parent == "/var/run/user"
}

// strangerIn is what a folder has beside the sockets of these names, "" if that is nothing
// to connect to. A folder that cannot be listed may have anything.
func strangerIn(path string, names []string) string {
	dir, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer dir.Close()
	entries, err := dir.ReadDir(entriesMax + 1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err.Error()
	case len(entries) > entriesMax:
		return "it has more than sockets"
	}
	for _, entry := range entries {
		ours := slices.Contains(names, entry.Name())
		switch {
		case entry.Type()&fs.ModeSocket != 0 && !ours:
			return "it has another socket: " + plainName(entry.Name())
		case entry.Type()&fs.ModeSymlink != 0 && ours:
			return "the socket is a link: " + plainName(entry.Name())
		case entry.IsDir():
			return "it has a folder: " + plainName(entry.Name())
		}
	}
	return ""
}

// plainName is the name of a file, which is somebody's, for the log.
func plainName(name string) string { return plainCommand([]byte(strings.Clone(name))) }
