package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

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
	a, mistakes, err := reloadOnce(control, file)
	for try := 1; a.Outdated && try < reloadTries; try++ {
		a, mistakes, err = reloadOnce(control, file)
	}
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

// reloadOnce puts the plan of a file in force; "" is the file by which the service was
// started. control is the socket, which is found by the file if it is "".
func reloadOnce(control *string, file string) (a reloadAnswer, mistakes []conf.Mistake, err error) {
	if file == "" {
		return reloadAt(*control, nil)
	}
	read := consult(inquiry{Command: "reload", Path: file})
	if len(read.Mistakes) > 0 {
		return a, read.Mistakes, nil
	}
	if *control == "" {
		if read.Plan.Control == "" {
			return a, read.Plan.Notices, nil
		}
		*control = read.Plan.Control
	}
	return reloadAt(*control, &read)
}

// isGiven reports whether a flag is among the arguments.
func isGiven(flags *flag.FlagSet, name string) (given bool) {
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// reloadAt puts in force at a control socket what was read; nil is what the file says by
// which the service was started. mistakes are what keeps it from being put in force.
func reloadAt(control string, read *answer) (a reloadAnswer, mistakes []conf.Mistake, err error) {
	was, err := askPlan(control)
	if err != nil {
		return a, nil, err
	}
	if was.Plan.File == "" { // its plan is the arguments of serve
		a, err = askReload(control, 0)
		return a, nil, err
	}
	if read == nil {
		if err := checkOwner(was.Plan.File); err != nil {
			return a, nil, err
		}
		asked := consult(inquiry{Command: "reload", Path: was.Plan.File})
		if read = &asked; len(read.Mistakes) > 0 {
			return a, read.Mistakes, nil
		}
	}
	for _, notice := range read.Plan.Notices { // those that the start has not said
		if !slices.ContainsFunc(was.Plan.Notices, func(said conf.Mistake) bool { return said.Key == notice.Key && said.What == notice.What }) {
			fmt.Fprintln(os.Stderr, notice)
		}
	}
	o := &offer{was: was, unfit: read.Unfit, boot: boot{
		plan: read.Plan, main: read.Main, wanted: read.Files, readyFD: -1, control: -1, log: newLog(os.Stderr),
	}}
	parcel, mistakes, err := o.parcel()
	if err != nil || len(mistakes) > 0 {
		o.withdraw()
		return a, mistakes, err
	}
	a, err = askReload(control, parcel)
	if err != nil {
		o.withdraw()
		return a, nil, err
	}
	a.changes = o.changes()
	return a, nil, nil
}

// checkOwner refuses a file that is not of who reloads. The service has named it, which
// whoever has taken the main warden over could do too, to have root open what it names.
func checkOwner(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to uid %d: name the file by -c", path, stat.Uid)
	}
	return nil
}

// errEnded is a service that ended before it answered.
var errEnded = errors.New("the service ended, or was killed, before it answered")

// askPlan asks which plan is in force.
func askPlan(control string) (*runningPlan, error) {
	fd, err := callControl(control)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := sockets.Send(fd, []byte(orderPlan)); err != nil && !hungUp(err) {
		return nil, err
	}
	text := make([]byte, statusPiece)
	n, descriptors, err := sockets.Receive(fd, text)
	switch {
	case hungUp(err):
		return nil, errRefused
	case errors.Is(err, unix.EAGAIN):
		return nil, silenceOf(fd)
	case err != nil:
		return nil, err
	}
	defer sockets.CloseAll(descriptors)
	var a planAnswer
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, fmt.Errorf("not reloaded: %s", plainCommand([]byte(a.Error)))
	}
	if len(descriptors) != 1 {
		return nil, errors.New("its plan was not told: it is another version of sallyport, which takes a restart")
	}
	was, err := readRunning(descriptors[0], a.Number)
	if err != nil {
		return nil, err
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	was.ours = err == nil && int(peer.Uid) == os.Getuid()
	return was, nil
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
	return strings.Join(append([]string{text}, a.changes...), "\n")
}

// listed is numbers for people: "1, 2".
func listed(numbers []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ", ")
}
