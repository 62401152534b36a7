package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// fileBytesMax bounds the file. It is far more than a configuration has: what is
// larger is a log or a disk that -c names by a slip.
const fileBytesMax = 1 << 20

// Load reads the configuration at path, relative to at.Folder, and makes the
// plan of it. It looks at the file's own rights and at the certificates that it
// names, and reports every mistake there is; the plan is nil when there is one.
func Load(path string, at Surroundings) (*Plan, []Mistake) {
	absolute := absolutePath(path, at)
	text, f := read(absolute)
	if !f.none() {
		return nil, []Mistake{{Place{File: path}, f.what, f.hint}}
	}
	plan, mistakes := parse(path, text, at)
	mistakes = append(mistakes, checkRights(path, absolute, writersOf(at))...)
	if plan != nil {
		mistakes = append(mistakes, plan.checkCertificates()...)
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
func read(path string) ([]byte, fault) {
	file, err := os.Open(path)
	if err != nil {
		return nil, openFault(err)
	}
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
func checkRights(name, absolute string, may writers) []Mistake {
	var mistakes []Mistake
	wrong := func(what, hint string) {
		mistakes = append(mistakes, Mistake{Place{File: name}, what, hint})
	}
	folders := []string{filepath.Dir(absolute)}
	if real, err := filepath.EvalSymlinks(absolute); err == nil && filepath.Dir(real) != folders[0] {
		folders = append(folders, filepath.Dir(real))
	}
	if info, err := os.Stat(absolute); err == nil && info.Mode().IsRegular() {
		if whom, fix := others(info, may); whom != "" {
			wrong("may be written by "+whom, fix+absolute)
		}
	}
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil {
			continue // reading the file has failed too
		}
		if whom, fix := others(info, may); whom != "" {
			wrong("is in a folder that "+whom+" may write", fix+folder)
		}
	}
	return mistakes
}

// writers are who may write a configuration that root runs: root, and whoever
// became root by sudo, which says who that was (sudo(8)). For anybody else's own start
// the owner of a file is no question.
type writers struct {
	anyOwner bool
	uid, gid int // beside root's
}

func writersOf(at Surroundings) writers {
	may := writers{anyOwner: at.UID != 0}
	// Without sudo both stay root's own, as for a text that is no number.
	may.uid, _ = strconv.Atoi(at.env("SUDO_UID"))
	may.gid, _ = strconv.Atoi(at.env("SUDO_GID"))
	return may
}

// others names who may write a file and should not, and the command that ends
// that; "" when there is nobody.
func others(info fs.FileInfo, may writers) (whom, fix string) {
	stat, _ := info.Sys().(*syscall.Stat_t) // it is one on Linux
	uid, gid := int(stat.Uid), int(stat.Gid)
	switch {
	case !may.anyOwner && uid != 0 && uid != may.uid:
		return fmt.Sprintf("uid %d", uid), "chown root "
	case info.IsDir() && info.Mode()&fs.ModeSticky != 0:
		return "", ""
	case info.Mode()&0o002 != 0:
		return "others", "chmod o-w "
	case !may.anyOwner && info.Mode()&0o020 != 0 && gid != 0 && gid != may.gid:
		return fmt.Sprintf("group %d", gid), "chmod g-w "
	}
	return "", ""
}

// checkCertificates looks whether the files of the keeper are there. Whether
// they are a certificate and its key is the keeper's to say: nobody else reads them.
func (p *Plan) checkCertificates() []Mistake {
	var mistakes []Mistake
	for _, c := range p.Keeper.Certificates {
		if c.Internal {
			continue
		}
		for _, file := range []struct{ key, path string }{{"cert", c.Cert}, {"key", c.Key}} {
			info, err := os.Stat(file.path)
			what, hint := "", "paths are relative to the configuration"
			switch {
			case errors.Is(err, fs.ErrPermission):
				what, hint = cause(err), "run as a user that may look into its folder"
			case err != nil:
				what = cause(err)
			case info.IsDir():
				what = "is a folder"
			default:
				continue
			}
			place := c.Where
			place.Key = "site.tls." + file.key
			mistakes = append(mistakes, Mistake{place, file.path + ": " + what, hint})
		}
	}
	return mistakes
}
