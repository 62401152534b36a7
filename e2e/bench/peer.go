package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// peerFiles are the configurations of all proxies, one file each.
//
//go:embed peers
var peerFiles embed.FS

// A setting is what a peer's file is filled in with.
type setting struct {
	Dir         string // folder of its own, for what it writes
	File        string // the file itself, filled in
	HTTP, HTTPS string // where to listen: "127.0.0.1:40000"
	H2C         string // likewise, for HTTP/2 in clear text
	App         string // path of the app's unix socket
	Cert, Key   string // paths of the certificate and its key,
	Pair        string // and of both in one file
	Log         string // path of the access log; "" for none
	QUIC        bool   // it is to speak HTTP/3 on HTTPS, too
	Root        bool   // it is started by root
}

// A header is how a peer is run. Its file begins with it, in lines that are
// comments to every proxy:
//
//	#: program nginx            what to execute; looked for in -bin, PATH, sbin
//	#: version -V               arguments that make it tell its version; not needed for Go programs
//	#: run     -c {{.File}}     arguments that make it serve, in the foreground
//	#: env     A=1 B=2          added to its environment
//	#: works   down up          the only works it takes part in
//	#: quic    newer            it speaks HTTP/3: "yes", or only that of a newer Debian
//	#: aside   reason           it is shown, but never the best that others are compared with
type header struct {
	program, aside string
	quic           string
	version, run   []string
	env, works     []string
}

// A peer is a proxy that takes part: a file, and the program it is for.
type peer struct {
	name   string // "nginx", "nginx13"
	file   string // "nginx.conf"
	header header
	argv   []string // the program, after a loader where it needs one
	exe    string   // the program's own path
}

// takesPart says whether the peer is measured at a work.
func (p peer) takesPart(w work) bool {
	if w.own && p.header.program != ours {
		return false
	}
	if w.quic && p.header.quic != "yes" && (p.header.quic != "newer" || len(p.argv) == 1) {
		return false
	}
	return len(p.header.works) == 0 || slices.Contains(p.header.works, w.name)
}

// templates parses the peers' files.
func templates() (*template.Template, error) {
	t := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"port": portOf})
	t, err := t.ParseFS(peerFiles, "peers/*.conf")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return t, nil
}

func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

// fill fills in a peer's file.
func fill(t *template.Template, file string, s setting) ([]byte, header, error) {
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, file, s); err != nil {
		return nil, header{}, fmt.Errorf("bench: %w", err)
	}
	h, err := parseHeader(out.String())
	if err != nil {
		return nil, header{}, fmt.Errorf("bench: peers/%s: %w", file, err)
	}
	return out.Bytes(), h, nil
}

// parseHeader reads the "#:" lines up to the first line that is no comment.
func parseHeader(text string) (header, error) {
	var h header
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		line, is := strings.CutPrefix(line, "#:")
		if !is {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "program":
			h.program = value
		case "version":
			h.version = strings.Fields(value)
		case "run":
			h.run = strings.Fields(value)
		case "env":
			h.env = strings.Fields(value)
		case "works":
			h.works = strings.Fields(value)
		case "quic":
			h.quic = value
		case "aside":
			h.aside = value
		default:
			return h, fmt.Errorf("%q is no key of a peer", key)
		}
	}
	if h.program == "" || h.run == nil {
		return h, errors.New("program or run is missing")
	}
	return h, nil
}

// findPeers returns the proxies that are installed, sallyport first, and the
// names of those that are not. A tree is the root folder of a newer Debian,
// whose programs take part under their name with its number after it.
func findPeers(t *template.Template, bin, tree string) (found []peer, absent []string, err error) {
	files, err := fs.Glob(peerFiles, "peers/*.conf")
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	for _, file := range files {
		file = path.Base(file)
		_, h, err := fill(t, file, setting{HTTP: "127.0.0.1:1", HTTPS: "127.0.0.1:2", H2C: "127.0.0.1:3"})
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimSuffix(file, ".conf")
		if exe := find(h.program, bin); exe != "" {
			found = append(found, peer{name, file, h, []string{exe}, exe})
		} else {
			absent = append(absent, name)
		}
		if tree == "" {
			continue
		}
		p, ok, err := newer(tree, peer{name: name, file: file, header: h})
		if err != nil {
			return nil, nil, err
		}
		if ok {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b peer) int {
		if (a.name == ours) != (b.name == ours) {
			if a.name == ours {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return found, absent, nil
}

// find returns the path of a program, or "".
func find(program, bin string) string {
	places := append([]string{bin}, filepath.SplitList(os.Getenv("PATH"))...)
	places = append(places, "/usr/local/sbin", "/usr/sbin", filepath.Join(os.Getenv("HOME"), "go", "bin"))
	for _, place := range places {
		exe, err := filepath.Abs(filepath.Join(place, program))
		if err != nil {
			continue
		}
		if info, err := os.Stat(exe); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return exe
		}
	}
	return ""
}

// newer makes of a peer the one of a tree, if it has the program. No chroot is
// needed, so the peer sees the same files as all others: the tree's own loader
// runs the program with the tree's libraries.
func newer(tree string, p peer) (peer, bool, error) {
	p.exe = filepath.Join(tree, "usr/sbin", p.header.program)
	if _, err := os.Stat(p.exe); err != nil {
		return p, false, nil
	}
	release, err := os.ReadFile(filepath.Join(tree, "etc/debian_version"))
	if err != nil {
		return p, false, fmt.Errorf("bench: %w", err)
	}
	loaders, err := filepath.Glob(filepath.Join(tree, "usr/lib*/ld-linux*"))
	if err != nil || len(loaders) == 0 {
		return p, false, fmt.Errorf("bench: no loader in %s/usr/lib*: %w", tree, errors.Join(err, fs.ErrNotExist))
	}
	libraries, err := filepath.Glob(filepath.Join(tree, "usr/lib/*-linux-gnu*"))
	if err != nil || len(libraries) == 0 {
		return p, false, fmt.Errorf("bench: no libraries in %s/usr/lib: %w", tree, errors.Join(err, fs.ErrNotExist))
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(release)), ".")
	p.name += number
	p.argv = []string{loaders[0], "--library-path", strings.Join(libraries, ":"), p.exe}
	return p, true, nil
}

// choosePeers keeps the peers with these names, and says which are missing.
func choosePeers(all []peer, names []string) ([]peer, error) {
	if len(names) == 0 {
		return all, nil
	}
	var kept []peer
	for _, name := range names {
		i := slices.IndexFunc(all, func(p peer) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("bench: %s is not installed", name)
		}
		kept = append(kept, all[i])
	}
	return kept, nil
}
