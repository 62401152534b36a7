package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"sallyport/upstream/board"
)

// A tlsStatus is what was counted of the handshakes of clients by a core, or by all that
// there were since the start of the service.
type tlsStatus struct {
	Handshakes uint64 `json:"handshakes"` // that went well
	Resumed    uint64 `json:"resumed"`    // of these: by a ticket, whichever core has made it
	Failed     uint64 `json:"failed"`     // that came to nothing
}

func newTLSStatus(r board.TLSReport) tlsStatus {
	return tlsStatus{r[board.Handshakes], r[board.Resumed], r[board.HandshakesLost]}
}

// tlsReport is that of all grounds, and of those that are gone.
func (w *warden) tlsReport() board.TLSReport {
	sum := w.shaken
	var done []*ground
	for _, e := range append([]*estate{w.estate}, w.estates...) {
		if e != nil && e.ground.board != nil && !slices.Contains(done, e.ground) {
			done = append(done, e.ground)
			sum.Add(e.ground.board.ReportTLS())
		}
	}
	return sum
}

// printTLS writes it for people.
func (s *status) printTLS(to io.Writer) {
	if s.TLS == (tlsStatus{}) {
		return
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nTLS\tHANDSHAKES\tRESUMED\tFAILED")
	fmt.Fprintf(w, "\t%d\t%d\t%d\n", s.TLS.Handshakes, s.TLS.Resumed, s.TLS.Failed)
	_ = w.Flush() // as in print
}
