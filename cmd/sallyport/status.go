package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
)

// A status is how the main warden sees the service. The names of its JSON are a
// contract.
type status struct {
	State     string          `json:"state"` // "starting", "serving" or "draining"
	PID       int             `json:"pid"`   // of the main warden
	Version   string          `json:"version"`
	Since     string          `json:"since"` // RFC 3339
	Processes []processStatus `json:"processes"`
	Apps      []appStatus     `json:"apps"` // those that a site leads to, in the order of the sites
	TLS       tlsStatus       `json:"tls"`

	Folder       string              `json:"certificates_folder,omitempty"` // of those from a CA
	Certificates []certificateStatus `json:"certificates,omitempty"`        // found by who asks

	shown []certificateStatus // by the keeper, of those that have no file in Folder
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
	Row        int    `json:"row"`        // among all that live at the same time and have the same apps
	State      string `json:"state"`      // "starting", "serving" or "draining"
	Since      string `json:"since"`      // of its draining, RFC 3339; "" before
	QUIC       int    `json:"quic"`       // connections of HTTP/3

	TLS tlsStatus `json:"tls"`
}

// An answer comes in pieces, because what is longer than net.core.wmem_default fits no
// message; its end is the end of the connection.
const (
	statusPiece    = 64 << 10
	statusBytesMax = 64 << 20 // more than the apps of a board have to say
)

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
		name := sibling.Name + " warden"
		if sibling.Mason {
			name = sibling.Name
		}
		s.Processes = append(s.Processes, processStatus{Name: name, PID: sibling.PID})
	}
	if w.scribe != nil {
		s.Processes = append(s.Processes, processStatus{Name: string(jail.Scribe), PID: w.scribe.pid})
	}
	s.Apps = w.appStatuses()
	s.TLS = newTLSStatus(w.tlsReport())
	s.Folder = w.duty.Folder
	return s.text()
}

// text is s as JSON, on a line.
func (s *status) text() []byte {
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
	s := &coreStatus{Generation: ward.generation, Row: ward.row, State: "serving"}
	if b := ward.estate.ground.board; b != nil {
		s.QUIC = b.QUIC(ward.row)
	}
	switch {
	case ward.isRetired():
		s.State, s.Since = "draining", ward.retired.UTC().Format(timeForm)
	case w.state >= draining:
		s.State = "draining"
	case ward.pid == 0 || !ward.ready:
		s.State = "starting"
	}
	if m := ward.estate.ground.board; m != nil {
		s.TLS = newTLSStatus(m.ReportRow(ward.row))
	}
	return s
}

// askFor asks the main warden at control, or at what the file at path has, how it is. If
// that failed it was said why in the name of a command, whose exit code is code.
func askFor(command, control, path string) (s status, code int, ok bool) {
	if control == "" {
		found, mistakes := controlOf(path)
		if found == "" {
			return s, complain(mistakes), false
		}
		control = found
	}
	text, along, err := askStatus(control)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && len(along) == 1 {
		s.shown = readShowing(along[0])
	}
	sockets.CloseAll(along)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sallyport %s: %s: %v\n", command, control, err)
		if hint := stopHint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: "+hint)
		}
		return s, exitCheck, false
	}
	return s, exitFine, true
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
	s, code, ok := askFor("status", *control, *path)
	if !ok {
		return code
	}
	switch {
	case *asJSON:
		s.findPeers()
		s.findCertificates(*path)
		fmt.Printf("%s", s.text())
	case !*ready:
		s.findPeers()
		s.findCertificates(*path)
		s.print(os.Stdout)
	}
	if *ready && s.State != "serving" {
		fmt.Fprintf(os.Stderr, "sallyport status: %s: %s\n", *control, s.State)
		return exitCheck
	}
	return exitFine
}

// askStatus asks at a control socket. Who does not answer in time is not well.
func askStatus(control string) (answer []byte, along []int, err error) {
	fd, err := callControl(control)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	piece := make([]byte, statusPiece)
	n, along, err := ask(fd, orderStatus, piece)
	answer = slices.Clone(piece[:n])
	for err == nil && len(answer) < statusBytesMax {
		n, _, err = sockets.Receive(fd, piece)
		answer = append(answer, piece[:n]...)
	}
	if len(answer) > 0 && hungUp(err) {
		return answer, along, nil
	}
	sockets.CloseAll(along)
	return nil, nil, err
}

// print writes s for people.
func (s *status) print(to io.Writer) {
	fmt.Fprintf(to, "%s, pid %d, version %s, since %s\n\n", s.State, s.PID, s.Version, s.Since)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROCESS\tPID\tRESTARTS\tGENERATION\tQUIC\tSTATE")
	for _, p := range s.Processes {
		if c := p.Core; c != nil {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", p.Name, p.PID, p.Restarts, c.Generation, c.QUIC, strings.TrimSpace(c.State+" "+c.Since))
		} else {
			fmt.Fprintf(w, "%s\t%d\t%d\n", p.Name, p.PID, p.Restarts)
		}
	}
	_ = w.Flush() // to a terminal or a pipe that whoever reads may have closed
	s.printApps(to)
	s.printTLS(to)
	s.printCertificates(to)
}

// statusUsage is what status --help prints beside the usage: the contract of its JSON.
const statusUsage = `
sallyport status --json is one line:

  state, pid, version, since     "starting", "serving" or "draining"; of the main process
  processes[]                    name, pid (0: does not run), restarts
    core                         of a core: generation, row, state, since (of its draining),
                                 quic (connections of HTTP/3), tls as below
  apps[]                         those that a site leads to
    name, max_inflight (per member, 0: no limit), queue_len
    in_flight, queued            now, over all cores
    served                       requests that the app began to answer
    queue_full, queue_time       503: the queue was full, or queue.time was over
    holds                        requests that waited for an absent app
    retries                      times a request was sent, or tried, once more
    failed                       requests without an answer of the app: 502 and 504
    members[]                    socket, in_flight, served, ejections, checks, checks_failed
      state                      "up"; "out": left out, or requests wait for it; "absent":
                                 nobody listens, and no request has met that yet
      why                        where it is not up: "connect: ..." or "check: ..."
      peer                       pid, uid, user, command of who called listen(2), by
                                 SO_PEERCRED: the app, or the supervisor that made its
                                 socket, or a master that has changed its user since;
                                 0, -1 or "" where not visible, and why
  tls                            of the handshakes of clients, over all cores
    handshakes, resumed, failed  that went well, of these by a ticket, and that came to nothing
  certificates_folder            where those from a CA are
  certificates[]                 those that are served, and of each name from a CA after its first order
    host, source                 its first name; "acme", "internal", "file", or "clients":
                                 of those who issue the certificates of clients
    ca, issuer, serial           of the certificate that is served
    names, file                  in it, and its path; of those that come from no CA
    disk_serial                  of what is in the folder, or in the file of the configuration,
                                 where this command may read it: another one was refused, or
                                 waits for a reload
    not_after, next              when it ends, and when it is renewed or tried again
    attempts, error              that have failed since, and what became of the last

Counts are since the start of the service, and survive reloads for as long as the app keeps
its name and the member its socket. Where a reload has changed an app's limits, in_flight and
queued are those of old and new cores together, and each of them keeps to its own limits. To find the peers, this
command connects to each socket and closes at once. --ready says nothing: exit status 0
when it serves, else 3.
`
