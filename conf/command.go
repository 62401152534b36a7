package conf

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// This file knows how the usual app servers are told to take the socket that
// they are given, as descriptor 3 and by LISTEN_FDS of sd_listen_fds(3). They
// are those of Debian 12 and their successors.

// appFD is the descriptor of an app's socket: "the first file
// descriptor may be found at file descriptor number 3", sd_listen_fds(3).
const appFD = 3

// An appServer is a program that serves an app.
type appServer struct {
	name string
	adds []string // behind its name, so that it listens on the socket; none where LISTEN_FDS is enough
	hint string   // the fix, where no argument of its own says it
}

// appServers is the table.
func appServers() []appServer {
	return []appServer{
		{name: "gunicorn"}, // with -b fd://3 it would try to remove the socket at its end
		{name: "uvicorn", adds: []string{"--fd", "{fd}"}},
		{name: "hypercorn", adds: []string{"-b", "fd://{fd}"}},
		{name: "daphne", adds: []string{"-e", "systemd:domain=UNIX:index=0"}},
		// Both take the socket of this path out of LISTEN_FDS instead of making it.
		{name: "puma", adds: []string{"-b", "unix://{socket}"}},
		{name: "unicorn", adds: []string{"-l", "{socket}"}},
		{name: "unicorn_rails", adds: []string{"-l", "{socket}"}},
		{name: "node", hint: "write server.listen({ fd: Number(process.argv[2]) }), and add {fd}: node server.js {fd}"},
	}
}

// A wrapper is a program that runs the one behind its verb.
type wrapper struct {
	name, verb string
	skips      []string // its own flags that may stand on either side of the verb
	forks      bool     // it waits for the program instead of becoming it
}

// wrappers is the table.
func wrappers() []wrapper {
	return []wrapper{
		{name: "python", verb: "-m", skips: []string{"-u", "-O", "-B", "-E", "-I", "-s"}},
		{name: "bundle", verb: "exec"},
		{name: "poetry", verb: "run"},
		{name: "uv", verb: "run", skips: []string{"--frozen", "--locked", "--no-sync", "--no-dev", "--offline"}, forks: true},
	}
}

// becomeListener goes between a wrapper that forks and the program: LISTEN_PID is
// to be the pid of whoever takes the socket, and this one knows it.
func becomeListener() []string {
	return []string{"sh", "-c", `export LISTEN_PID=$$; exec "$0" "$@"`}
}

// launch is a command with what makes it listen on its socket: the placeholders
// {fd} and {socket} filled, or else the arguments of a known app server added.
func launch(command []string, socket string) ([]string, fault) {
	argv := slices.Clone(command)
	name, fork := unwrap(command)
	if !slices.ContainsFunc(command[1:], hasPlaceholder) {
		server, f := appServerOf(command[name])
		if !f.none() {
			return nil, f
		}
		if !containsAll(command, fill(server.adds, socket)) {
			argv = slices.Insert(argv, name+1, server.adds...)
		}
	}
	if fork > 0 {
		argv = slices.Insert(argv, fork, becomeListener()...)
	}
	return append(argv[:1:1], fill(argv[1:], socket)...), fault{}
}

// unwrap finds the name of the program that a command is about, and the place
// behind the last wrapper that forks; 0 when there is none.
func unwrap(command []string) (name, fork int) {
	for {
		next, forks := name, false
		for _, w := range wrappers() {
			if past := w.unwrap(command, name); past > name {
				next, forks = past, w.forks
			}
		}
		if next == name {
			return name, fork
		}
		if name = next; forks {
			fork = next
		}
	}
}

// unwrap returns the place of the program that w runs, or at when w is not there.
func (w wrapper) unwrap(command []string, at int) int {
	if plainName(command[at]) != w.name {
		return at
	}
	skip := func(from int) int {
		for from < len(command) && slices.Contains(w.skips, command[from]) {
			from++
		}
		return from
	}
	verb := skip(at + 1)
	if verb >= len(command) || command[verb] != w.verb {
		return at
	}
	if program := skip(verb + 1); program < len(command) {
		return program
	}
	return at
}

// appServerOf finds a program in the table, or says what is missing.
func appServerOf(program string) (appServer, fault) {
	var known []string
	for _, server := range appServers() {
		switch {
		case server.name != plainName(program):
			known = append(known, server.name)
		case server.hint != "":
			return server, fault{"is not told where to listen", server.hint}
		default:
			return server, fault{}
		}
	}
	return appServer{}, fault{
		"is not told where to listen, and " + strconv.Quote(filepath.Base(program)) + " is none of " + strings.Join(known, ", "),
		"write {fd} or {socket} where the command says it, as in --fd {fd}; or start it yourself, and name its socket: sallyport serve unix:/run/app.sock",
	}
}

// plainName is the name of a program without folder and version: "python" of
// /usr/bin/python3.11.
func plainName(program string) string {
	return strings.TrimRight(filepath.Base(program), "0123456789.")
}

// hasPlaceholder reports whether an argument says where the socket goes.
func hasPlaceholder(argument string) bool {
	return strings.Contains(argument, "{fd}") || strings.Contains(argument, "{socket}")
}

// fill puts the socket in the place of the placeholders.
func fill(arguments []string, socket string) []string {
	filler := strings.NewReplacer("{fd}", strconv.Itoa(appFD), "{socket}", socket)
	filled := make([]string, len(arguments))
	for i, argument := range arguments {
		filled[i] = filler.Replace(argument)
	}
	return filled
}

// containsAll reports whether the words of part stand in all, one behind the other.
func containsAll(all, part []string) bool {
	for i := range len(all) - len(part) + 1 {
		if slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}
