package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is the reload command, which runs beside the service: by root or by who
// started that, as often as the configuration changes. It is boot once more, for what is
// not there yet: offer.go. What becomes of that is in generations.go and estates.go.

// reloadCommand has a running sallyport follow its configuration, and says what became of
// that.
func reloadCommand(args []string) int {
	runtime.LockOSThread() // who checks the keys dies with the thread that has started it
	flags, path := newFlags("reload")
	control := flags.String("control", "", "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	file := *path
	if *control != "" && !isGiven(flags, "c") {
		file = "" // the service names it
	}
	var a reloadAnswer
	var mistakes []conf.Mistake
	var err error
	if *control == "" {
		*control, mistakes = controlOf(file)
	}
	for try := 0; *control != "" && (try == 0 || a.Outdated && try < reloadTries); try++ {
		a, mistakes, err = reloadAt(*control, file)
	}
	_ = jail.Leave() // the rest is words
	if err != nil {
		fmt.Fprintf(os.Stderr, "sallyport reload: %s: %v\n", *control, err)
		if hint := stopHint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: "+hint)
		}
		return exitMistake
	}
	if len(mistakes) > 0 {
		complain(mistakes)
		fmt.Fprintln(os.Stderr, "sallyport reload: nothing has changed: see above")
		return exitMistake
	}
	fmt.Println(a.text())
	return exitFine
}

// reloadTries is how often a reload is begun anew because another one has come between.
const reloadTries = 3

// isGiven reports whether a flag is among the arguments.
func isGiven(flags *flag.FlagSet, name string) (given bool) {
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// reloadAt puts in force at a control socket what a file says; "" is the file by which the
// service was started. mistakes are what keeps it from being put in force.
func reloadAt(control, file string) (a reloadAnswer, mistakes []conf.Mistake, err error) {
	q := inquiry{Command: "reload", Path: file}
	if err := q.askPlan(control); err != nil {
		return a, nil, err
	}
	defer q.given.Close()
	read := consult(q)
	if file == "" && read.Refused == "" && len(read.Mistakes) == 0 {
		if q.Path = read.Main.File; q.Path == "" { // its plan is the arguments of serve
			a, err = askReload(control, 0)
			return a, nil, err
		}
		if err := checkOwner(q.Path); err != nil {
			return a, nil, err
		}
		read = consult(q)
	}
	if read.Refused != "" {
		return a, nil, errors.New(read.Refused)
	}
	if len(read.Mistakes) > 0 {
		return a, read.Mistakes, nil
	}
	for _, notice := range read.Notices {
		fmt.Fprintln(os.Stderr, notice)
	}
	b := &boot{answer: read, log: newLog(os.Stderr)}
	parcel, mistakes, err := b.parcel()
	if err == nil && len(mistakes) == 0 {
		a, err = askReload(control, parcel)
	}
	if err != nil || len(mistakes) > 0 {
		b.withdraw()
		return a, mistakes, err
	}
	a.opened, a.closed = b.opened, b.Closed
	return a, nil, nil
}

// checkOwner refuses a file that is not of who reloads, and what only to open has effects, or waits. The
// service has named it, which whoever has taken the main warden over could do too, to have root open
// what it names.
func checkOwner(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%q is no regular file: name the file by -c", path)
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to uid %d: name the file by -c", path, stat.Uid)
	}
	return nil
}

// errEnded is a service that ended before it answered.
var errEnded = errors.New("the service ended, or was killed, before it answered")

// askPlan asks which plan is in force, for a planner to read it.
func (q *inquiry) askPlan(control string) error {
	fd, err := callControl(control)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	text := make([]byte, statusPiece)
	n, descriptors, err := ask(fd, orderPlan, text)
	if err != nil {
		return err
	}
	q.Said = text[:n]
	for _, fd := range descriptors { // one, if all is well
		q.given = append(q.given, sockets.Gift{Name: "running", FD: fd})
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	q.Ours = err == nil && int(peer.Uid) == os.Getuid()
	return nil
}

// askReload asks at a control socket, and waits for as long as the reload takes. parcel is
// what the new cores are given, 0 when the plan is to stay. It is closed.
func askReload(control string, parcel int) (a reloadAnswer, err error) {
	var along []int
	if parcel != 0 {
		along = []int{parcel}
		defer unix.Close(parcel)
	}
	fd, err := callControl(control)
	if err != nil {
		return a, err
	}
	defer unix.Close(fd)
	if err := confirmed(fd, orderReload, along...); err != nil {
		return a, err
	}
	text := make([]byte, statusPiece)
	n, _, err := sockets.Receive(fd, text)
	switch {
	case hungUp(err):
		return a, errEnded
	case err == nil:
		err = json.Unmarshal(text[:n], &a)
	}
	if err == nil && a.Error != "" {
		err = fmt.Errorf("not reloaded: %s; generation %d serves on, and the log says more", plainCommand([]byte(a.Error)), a.Generation)
	}
	return a, err
}

// text is the answer for people: "reloaded: generation 2, cores 4711; generation 1 drains".
func (a *reloadAnswer) text() string {
	cores, drain := "cores", "; generations %s drain"
	if len(a.Cores) == 1 {
		cores = "core"
	}
	if len(a.Draining) == 1 {
		drain = "; generation %s drains"
	}
	text := fmt.Sprintf("reloaded: generation %d, %s %s", a.Generation, cores, listed(a.Cores))
	if len(a.Draining) > 0 {
		text += fmt.Sprintf(drain, listed(a.Draining))
	}
	lines := []string{text}
	for _, l := range a.opened {
		lines = append(lines, "opened: "+l.text())
	}
	return strings.Join(append(lines, a.closed...), "\n")
}

// listed is numbers for people: "1, 2".
func listed(numbers []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ", ")
}
