package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// fileBytesMax bounds the file: a hundred thousand names of customers have room. What is
// larger is a log or a disk that -c names by a slip.
const fileBytesMax = 4 << 20

// A Source is the configuration as whoever may open it has found it: descriptors, so that
// whoever judges and reads it needs no right of its own, and nobody looks twice.
type Source struct {
	Text   int        // -1 when it could not be opened
	Errno  unix.Errno // why
	Folder int        // of the path, O_PATH: for its rights; -1 when it is not to be had
	Origin int        // the folder of what Text really is, which may be the same; -1 where there is none
	Real   string     // path of Origin
}

// Open opens the configuration at a path.
func Open(path string) (s Source) {
	var err error
	s.Text, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	errors.As(err, &s.Errno)
	real, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.Text)) // no path where it is a pipe, or nothing
	s.Real = filepath.Dir(real)
	s.Folder, s.Origin = openFolder(filepath.Dir(path)), openFolder(s.Real)
	return s
}

// openFolder opens a folder to look at its rights.
func openFolder(path string) int {
	fd, _ := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // -1 if it has just been removed
	return fd
}

// Load reads the configuration that messages call name, relative to at.Folder, and makes
// the plan of it, and closes it. It looks at the file's own rights and at the certificates that it
// names, and reports every mistake there is; the plan is nil when there is one.
func Load(name string, source Source, at Surroundings) (*Plan, []Mistake) {
	loose := source.checkRights(name, at)
	text, f := source.read()
	if !f.none() {
		return nil, []Mistake{{Place{File: name}, f.what, f.hint}}
	}
	plan, mistakes := parse(name, text, at)
	mistakes = append(mistakes, loose...)
	if plan != nil {
		mistakes = append(mistakes, plan.checkCertificates(at)...)
	}
	sortMistakes(mistakes)
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return plan, nil
}

// Parse makes the plan of a text, which messages call name. It looks at no
// file. The plan is nil when there are mistakes, which are in the order of the text.
func Parse(name string, text []byte, at Surroundings) (*Plan, []Mistake) {
	plan, mistakes := parse(name, text, at)
	sortMistakes(mistakes)
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return plan, nil
}

// parse is Parse that returns what it could make of a text with mistakes: nil
// when it is not TOML, because then too much is missing to judge the rest.
func parse(name string, text []byte, at Surroundings) (*Plan, []Mistake) {
	tree, mistakes := grow(name, text)
	keys := newKeyTable()
	wrong, notices := check(name, tree, keys)
	if len(mistakes) > 0 {
		return nil, append(mistakes, wrong...)
	}
	p := newPlanner(name, absolutePath(name, at), tree, keys, at)
	p.resolve()
	p.plan.Notices = append(p.plan.Notices, notices...)
	sortMistakes(p.plan.Notices)
	return p.plan, append(wrong, p.mistakes...)
}

// absolutePath is where a path leads from the starter's folder; "" stays "".
func absolutePath(path string, at Surroundings) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(at.Folder, path)
}

// read is the content of the configuration.
func (s Source) read() ([]byte, fault) {
	if s.Text < 0 {
		return nil, openFault(s.Errno)
	}
	file := os.NewFile(uintptr(s.Text), "configuration")
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, fileBytesMax+1))
	switch {
	case err != nil:
		return nil, fault{"cannot be read: " + cause(err), "name the file with -c"}
	case len(text) > fileBytesMax:
		return nil, fault{"is larger than " + strconv.Itoa(fileBytesMax) + " bytes", ""}
	}
	return text, fault{}
}

// openFault explains why the configuration cannot be opened.
func openFault(err error) fault {
	hint := "name the file with -c"
	if errors.Is(err, fs.ErrPermission) {
		hint = "run as a user that may read it"
	}
	return fault{"cannot be opened: " + cause(err), hint}
}

// cause is the last of a chain of errors: the errno, without path and call.
func cause(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return err.Error()
}

// checkRights refuses a file that others may write, or replace because they may
// write its folder: whoever writes it tells root what to open. A sticky folder
// passes, in it one replaces only one's own. Both ends of a link count.
func (s Source) checkRights(name string, at Surroundings) []Mistake {
	may, absolute := writersOf(at), absolutePath(name, at)
	var mistakes []Mistake
	wrong := func(what, hint string) {
		mistakes = append(mistakes, Mistake{Place{File: name}, what, hint})
	}
	if stat, ok := rights(s.Text); ok && stat.Mode&unix.S_IFMT == unix.S_IFREG {
		if whom, fix := others(stat, may); whom != "" {
			wrong("may be written by "+whom, fix+absolute)
		}
	}
	folder, there := rights(s.Folder)
	if whom, fix := others(folder, may); there && whom != "" {
		wrong("is in a folder that "+whom+" may write", fix+filepath.Dir(absolute))
	}
	origin, there := rights(s.Origin)
	same := origin.Dev == folder.Dev && origin.Ino == folder.Ino
	if whom, fix := others(origin, may); there && !same && filepath.IsAbs(s.Real) && whom != "" {
		wrong("is in a folder that "+whom+" may write", fix+s.Real)
	}
	return mistakes
}

// rights are those of an open file.
func rights(fd int) (stat unix.Stat_t, ok bool) {
	return stat, unix.Fstat(fd, &stat) == nil
}

// writers are who may write a configuration that root runs: root, and whoever
// became root by sudo, which says who that was (sudo(8)). For anybody else's own start
// the owner of a file is no question.
type writers struct {
	anyOwner bool
	uid, gid int // beside root's
}

func writersOf(at Surroundings) writers {
	may := writers{anyOwner: !at.root()}
	// Without sudo both stay root's own, as for a text that is no number.
	may.uid, _ = strconv.Atoi(at.env("SUDO_UID"))
	may.gid, _ = strconv.Atoi(at.env("SUDO_GID"))
	return may
}

// others names who may write a file and should not, and the command that ends
// that; "" when there is nobody.
func others(stat unix.Stat_t, may writers) (whom, fix string) {
	uid, gid := int(stat.Uid), int(stat.Gid)
	switch {
	case !may.anyOwner && uid != 0 && uid != may.uid:
		return fmt.Sprintf("uid %d", uid), "chown root "
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Mode&unix.S_ISVTX != 0:
		return "", ""
	case stat.Mode&0o002 != 0:
		return "others", "chmod o-w "
	case !may.anyOwner && stat.Mode&0o020 != 0 && gid != 0 && gid != may.gid:
		return fmt.Sprintf("group %d", gid), "chmod g-w "
	}
	return "", ""
}

// checkCertificates looks whether the files of the keeper are there. Whether
// they are a certificate and its key is the keeper's to say: nobody else reads them.
func (p *Plan) checkCertificates(at Surroundings) []Mistake {
	var mistakes []Mistake
	for _, c := range p.Keeper.Certificates {
		for _, file := range c.Files() {
			stat, err := at.look(file.Path)
			what, hint := "", "paths are relative to the configuration"
			switch {
			case errors.Is(err, fs.ErrPermission):
				what, hint = cause(err), "run as a user that may look into its folder"
			case err != nil:
				what = cause(err)
			case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
				what = "is a folder"
			default:
				continue
			}
			place := c.Where
			place.Key = file.Key
			mistakes = append(mistakes, Mistake{place, file.Path + ": " + what, hint})
		}
	}
	return mistakes
}
