package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"sallyport/conf"
	"sallyport/upstream/board"
)

// This file is what status says of apps. The main warden has the numbers from the board,
// on which the cores count, and what is not a number from its duty, which boot wrote: it
// reads no text of a core. Who listens behind a socket is found by the command, not here;
// see peer.go.

// An appDuty is what the main warden is told of an app, in the order of the board.
type appDuty struct {
	Name        string
	Sockets     []string
	InFlightMax int
	QueueLen    int
}

// appDuties are those of the apps of a plan.
func appDuties(apps []conf.App) []appDuty {
	var duties []appDuty
	for _, app := range apps {
		duties = append(duties, appDuty{app.Name, app.Sockets, app.InFlightMax, app.QueueLen})
	}
	return duties
}

// An appStatus is how an app is. Counts are since the start of the service, over all
// cores that there were; what a core has counted that was taken over may be anything.
type appStatus struct {
	Name        string         `json:"name"`
	MaxInFlight int            `json:"max_inflight"` // per member; 0: no limit
	QueueLen    int            `json:"queue_len"`    // 0: nobody waits
	InFlight    int            `json:"in_flight"`    // requests that are with the members, and checks
	Queued      int            `json:"queued"`       // requests that wait, for a slot or an absent app
	Served      uint64         `json:"served"`       // requests that the app began to answer
	QueueFull   uint64         `json:"queue_full"`   // of 503: the queue was full
	QueueTime   uint64         `json:"queue_time"`   // of 503: queue.time was over
	Holds       uint64         `json:"holds"`        // requests that waited for an absent app
	Retries     uint64         `json:"retries"`      // times a request was sent, or tried, once more
	Failed      uint64         `json:"failed"`       // requests without an answer of the app: 502, 504
	Drained     uint64         `json:"drained"`      // replies that waited for slow clients without a slot
	Clogged     uint64         `json:"clogged"`      // likewise with their slot: the spool was full
	Overflowed  uint64         `json:"overflowed"`   // requests that had a slot early: the spool was full
	SpoolFull   uint64         `json:"spool_full"`   // of 503: the spool was full
	Members     []memberStatus `json:"members"`      // in the order of the file
}

// The states of a member.
const (
	memberUp     = "up"     // as far as anybody knows
	memberOut    = "out"    // the cores leave it out, or hold requests for it: see why
	memberAbsent = "absent" // this command found nobody listening; no request has met that yet
)

// A memberStatus is how one socket of an app is.
type memberStatus struct {
	Socket       string      `json:"socket"`        // path
	State        string      `json:"state"`         // "up", "out" or "absent"
	Why          string      `json:"why,omitempty"` // where it is not up: "check: status 503"
	InFlight     int         `json:"in_flight"`
	Served       uint64      `json:"served"`
	Ejections    uint64      `json:"ejections"` // times that it was lost because it refused
	Checks       uint64      `json:"checks"`
	ChecksFailed uint64      `json:"checks_failed"`
	Peer         *peerStatus `json:"peer,omitempty"` // who listens, added by the command
}

// appStatuses are those of all apps of the plan in force. What older plans have counted of
// them, and count as long as a core of them lives, is added.
func (w *warden) appStatuses() []appStatus {
	all := []appStatus{}
	if w.estate == nil {
		return all
	}
	all = append(all, w.estate.ground.statuses()...)
	merge(all, w.counts)
	done := []*ground{w.estate.ground}
	for _, e := range w.estates {
		if !slices.Contains(done, e.ground) {
			done = append(done, e.ground)
			merge(all, e.ground.statuses())
		}
	}
	return all
}

// statuses are those of the apps of a ground.
func (g *ground) statuses() (all []appStatus) {
	if g.board == nil {
		return nil
	}
	for i, app := range g.apps {
		all = append(all, app.status(g.board.Report(i)))
	}
	return all
}

// keepCounts has what was counted on a ground outlive it: of TLS, and of the apps and members that
// the plan in force still has.
func (w *warden) keepCounts(g *ground) {
	var kept []appStatus
	for _, app := range w.estate.ground.apps {
		s := appStatus{Name: app.Name}
		for _, socket := range app.Sockets {
			s.Members = append(s.Members, memberStatus{Socket: socket})
		}
		kept = append(kept, s)
	}
	merge(kept, w.counts)
	merge(kept, g.statuses())
	w.counts = kept
	if g.board != nil {
		w.shaken.Add(g.board.ReportTLS())
	}
}

// merge adds what is counted of apps elsewhere, by their names and sockets.
func merge(all, more []appStatus) {
	for i := range more {
		for k := range all {
			if all[k].Name == more[i].Name {
				all[k].add(&more[i])
			}
		}
	}
}

// add adds what is counted of the same app elsewhere. How its members are is not: the
// plan in force knows.
func (s *appStatus) add(o *appStatus) {
	s.InFlight += o.InFlight
	s.Queued += o.Queued
	s.Served += o.Served
	s.QueueFull += o.QueueFull
	s.QueueTime += o.QueueTime
	s.Holds += o.Holds
	s.Retries += o.Retries
	s.Failed += o.Failed
	s.Drained += o.Drained
	s.Clogged += o.Clogged
	s.Overflowed += o.Overflowed
	s.SpoolFull += o.SpoolFull
	for i := range s.Members {
		for _, m := range o.Members {
			if member := &s.Members[i]; member.Socket == m.Socket {
				member.InFlight += m.InFlight
				member.Served += m.Served
				member.Ejections += m.Ejections
				member.Checks += m.Checks
				member.ChecksFailed += m.ChecksFailed
			}
		}
	}
}

func (d *appDuty) status(r board.AppReport) appStatus {
	s := appStatus{
		Name: d.Name, MaxInFlight: d.InFlightMax, QueueLen: d.QueueLen, InFlight: r.InFlight, Queued: r.Queued,
		QueueFull: r.Counts[board.Full], QueueTime: r.Counts[board.Late], Holds: r.Counts[board.Held],
		Retries: r.Counts[board.Retried], Failed: r.Counts[board.Failed],
		Drained: r.Counts[board.Drained], Clogged: r.Counts[board.Clogged],
		Overflowed: r.Counts[board.Overflowed], SpoolFull: r.Counts[board.Unspooled],
	}
	for i, m := range r.Members {
		state, why := memberUp, ""
		switch {
		case m.Lost != 0:
			state, why = memberOut, "connect: "+m.Lost.String()
		case m.Check != 0:
			state, why = memberOut, "check: "+m.Check.String()
		}
		s.Served += m.Counts[board.Served]
		s.Members = append(s.Members, memberStatus{
			Socket: d.Sockets[i], State: state, Why: why, InFlight: m.InFlight,
			Served: m.Counts[board.Served], Ejections: m.Counts[board.TimesLost],
			Checks: m.Counts[board.Checks], ChecksFailed: m.Counts[board.ChecksFailed],
		})
	}
	return s
}

// printApps writes the apps of s for people.
func (s *status) printApps(to io.Writer) {
	if len(s.Apps) == 0 {
		return
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nAPP\tIN FLIGHT\tQUEUED\tSERVED\tQUEUE FULL\tQUEUE TIME\tHOLDS\tRETRIES\tFAILED\tDRAINED\tSPOOL FULL")
	for _, a := range s.Apps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", a.Name, outOf(a.InFlight, a.MaxInFlight*len(a.Members)),
			outOf(a.Queued, a.QueueLen), a.Served, a.QueueFull, a.QueueTime, a.Holds, a.Retries, a.Failed,
			a.Drained, a.Clogged+a.Overflowed+a.SpoolFull)
	}
	fmt.Fprintln(w, "\nAPP\tMEMBER\tSTATE\tIN FLIGHT\tSERVED\tEJECTIONS\tCHECKS FAILED\tPID\tUSER\tCOMMAND")
	for _, a := range s.Apps {
		for _, m := range a.Members {
			checks := "-"
			if m.Checks > 0 {
				checks = fmt.Sprintf("%d of %d", m.ChecksFailed, m.Checks)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", a.Name, m.Socket, m.State, outOf(m.InFlight, a.MaxInFlight),
				m.Served, m.Ejections, checks, m.Peer.columns())
			if m.Why != "" {
				fmt.Fprintf(w, "\t  %s\n", m.Why)
			}
		}
	}
	_ = w.Flush() // to a terminal or a pipe that whoever reads may have closed
}

// outOf is a count with its limit, if there is one.
func outOf(count, limit int) string {
	if limit == 0 {
		return strconv.Itoa(count)
	}
	return fmt.Sprintf("%d/%d", count, limit)
}
