package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/sockets"
)

// errLimit means that an order was not sent, because the CA would refuse it.
var errLimit = errors.New("the limits of this CA would refuse the order: it waits")

// A limit is one of a CA: what it counts, of whom, in which time.
type limit struct {
	of     string // "issued" or "failed", for one name; "ordered" by the account
	most   int
	within time.Duration
}

// limitsOf are the known limits of a CA, by the host of its directory.
// https://letsencrypt.org/docs/rate-limits/, as of 2025: "New Certificates per Exact Set of
// Identifiers", "Authorization Failures per Identifier per Account", "New Orders per Account".
func limitsOf(ca string) []limit {
	u, err := url.Parse(ca)
	if err != nil || u.Hostname() != "acme-v02.api.letsencrypt.org" {
		return nil
	}
	return []limit{{"issued", 5, 7 * 24 * time.Hour}, {"failed", 5, time.Hour}, {"ordered", 300, 3 * time.Hour}}
}

// A ledger remembers orders, over starts, so that none is sent that is sure to be refused
// and would only count against the limits.
type ledger struct {
	folder *sockets.Folder // nil: it forgets with the keeper
	ca     string
	limits []limit

	mu sync.Mutex

	memory  map[string][]byte // without a folder
	ordered []time.Time       // by the account, in this life of the keeper
}

func newLedger(folder *sockets.Folder, ca string) *ledger {
	return &ledger{folder: folder, ca: ca, limits: limitsOf(ca), memory: map[string][]byte{}}
}

// entriesMax bounds what is remembered of one name.
const entriesMax = 16

// An entry is one order: "1764090000 issued".
type entry struct {
	at time.Time
	of string
}

func parseEntries(text []byte) (entries []entry) {
	for line := range bytes.Lines(text) {
		seconds, of, found := strings.Cut(strings.TrimSpace(string(line)), " ")
		at, err := strconv.ParseInt(seconds, 10, 64)
		if found && err == nil && len(entries) < entriesMax {
			entries = append(entries, entry{time.Unix(at, 0), of})
		}
	}
	return entries
}

func (l *ledger) file(name string) string { return sockets.FileName("ledger/" + l.ca + "/" + name) }

func (l *ledger) read(name string) ([]entry, error) {
	if l.folder == nil {
		return parseEntries(l.memory[name]), nil
	}
	text, err := l.folder.Read(l.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return parseEntries(text), err
}

// wait is when an order of a name may be sent: a time that is over, mostly.
func (l *ledger) wait(name string, now time.Time) (until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.limits) == 0 {
		return until
	}
	entries, _ := l.read(name) // a ledger that cannot be read forbids nothing
	for _, limit := range l.limits {
		var times []time.Time
		for _, e := range entries {
			if e.of == limit.of {
				times = append(times, e.at)
			}
		}
		if limit.of == "ordered" {
			times = l.ordered
		}
		if len(times) < limit.most {
			continue
		}
		if free := times[len(times)-limit.most].Add(limit.within); free.After(now) && free.After(until) {
			until = free
		}
	}
	return until
}

// note writes down an order and how it ended. What never reached the CA is none.
func (l *ledger) note(name string, at time.Time, failure error) error {
	var r *refusal
	of := "issued"
	switch {
	case failure == nil:
	case errors.As(failure, &r) && r.status != 0:
		of = "failed"
	default:
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ordered = append(l.ordered, at); len(l.ordered) > 1000 {
		l.ordered = append([]time.Time{}, l.ordered[500:]...)
	}
	entries, err := l.read(name)
	if err != nil {
		entries = nil
	}
	entries = append(entries, entry{at, of})
	var text []byte
	for _, e := range entries[max(0, len(entries)-entriesMax):] {
		text = fmt.Appendf(text, "%d %s\n", e.at.Unix(), e.of)
	}
	if l.folder == nil {
		l.memory[name] = text
		return nil
	}
	return l.folder.Write(l.file(name), text)
}
