package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// A status is how the main warden sees the service. The names of its JSON are a
// contract.
type status struct {
	State     string          `json:"state"` // "starting", "serving" or "draining"
	PID       int             `json:"pid"`   // of the main warden
	Version   string          `json:"version"`
	Since     string          `json:"since"` // RFC 3339
	Processes []processStatus `json:"processes"`
}

// A processStatus is one process that the main warden watches: what the other
// wardens start is theirs to know.
type processStatus struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`      // 0 while it does not run
	Restarts int    `json:"restarts"` // always 0 for a warden

	Core *coreStatus `json:"core,omitempty"` // nil of others
}

// A coreStatus is where a core is in its life.
type coreStatus struct {
	Generation int    `json:"generation"` // from 1; each reload makes one
	Row        int    `json:"row"`        // among all that may live at the same time
	State      string `json:"state"`      // "starting", "serving" or "draining"
	Since      string `json:"since"`      // of its draining, RFC 3339; "" before
}

// statusBytesMax bounds an answer: 256 cores in four generations fill it nearly. What
// is longer does not fit net.core.wmem_default either.
const statusBytesMax = 192 << 10

// status is the answer to a question.
func (w *warden) status() []byte {
	s := status{
		State: "starting", PID: os.Getpid(), Version: version(),
		Since: w.began.UTC().Format(timeForm), Processes: []processStatus{},
	}
	switch {
	case w.state >= draining:
		s.State = "draining"
	case w.state == serving:
		s.State = "serving"
	}
	for _, ward := range w.wards {
		s.Processes = append(s.Processes, processStatus{ward.plan.Name, ward.pid, max(0, ward.starts-1), w.coreStatus(ward)})
	}
	for _, sibling := range w.duty.Siblings {
		s.Processes = append(s.Processes, processStatus{Name: sibling.Name + " warden", PID: sibling.PID})
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic("BUG: " + err.Error()) // strings and numbers
	}
	return append(text, '\n')
}

func (w *warden) coreStatus(ward *ward) *coreStatus {
	if !ward.isCore() {
		return nil
	}
	s := &coreStatus{Generation: ward.generation, Row: w.row(ward), State: "serving"}
	switch {
	case ward.isRetired():
		s.State, s.Since = "draining", ward.retired.UTC().Format(timeForm)
	case w.state >= draining:
		s.State = "draining"
	case ward.pid == 0 || !ward.ready:
		s.State = "starting"
	}
	return s
}

// statusCommand asks the main warden how it is.
func statusCommand(args []string) int {
	flags, path := newFlags("status")
	control := flags.String("control", "", "")
	asJSON := flags.Bool("json", false, "")
	ready := flags.Bool("ready", false, "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	if *control == "" {
		found, mistakes := controlOf(*path)
		if found == "" {
			return complain(mistakes)
		}
		*control = found
	}
	text, err := askStatus(*control)
	var s status
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sallyport status: %s: %v\n", *control, err)
		if hint := stopHint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: "+hint)
		}
		return exitCheck
	}
	switch {
	case *asJSON:
		fmt.Printf("%s", text)
	case !*ready:
		s.print(os.Stdout)
	}
	if *ready && s.State != "serving" {
		fmt.Fprintf(os.Stderr, "sallyport status: %s: %s\n", *control, s.State)
		return exitCheck
	}
	return exitFine
}

// askStatus asks at a control socket. Who does not answer in time is not well.
func askStatus(control string) ([]byte, error) {
	fd, err := callControl(control)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	answer := make([]byte, statusBytesMax)
	n, err := ask(fd, orderStatus, answer)
	return answer[:n], err
}

// print writes s for people.
func (s *status) print(to io.Writer) {
	fmt.Fprintf(to, "%s, pid %d, version %s, since %s\n\n", s.State, s.PID, s.Version, s.Since)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROCESS\tPID\tRESTARTS\tGENERATION\tSTATE")
	for _, p := range s.Processes {
		if c := p.Core; c != nil {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", p.Name, p.PID, p.Restarts, c.Generation, strings.TrimSpace(c.State+" "+c.Since))
		} else {
			fmt.Fprintf(w, "%s\t%d\t%d\n", p.Name, p.PID, p.Restarts)
		}
	}
	_ = w.Flush() // to a terminal or a pipe that whoever reads may have closed
}
