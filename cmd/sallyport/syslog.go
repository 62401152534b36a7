package main

import (
	"bytes"
	"fmt"
	"time"

	"sallyport/conf"
)

// A letterhead is how a line is addressed to a syslog daemon.
type letterhead struct {
	form conf.LogForm
	host string // of this machine, for RFC 5424
}

// facilityDaemon is that of "system daemons", RFC 5424, section 6.2.1, where "the Priority
// value is calculated by first multiplying the Facility number by 8 and then adding the
// numerical value of the Severity".
const facilityDaemon = 3

// letter is a line as the daemon takes it: on a unix socket "<30>Nov 25 17:00:00 sallyport: ...",
// as syslog(3) of glibc writes it, and over UDP
// "<30>1 2026-11-25T17:00:00.000Z host sallyport - - - ...", RFC 5424, section 6.
func (l letterhead) letter(now time.Time, line []byte) []byte {
	priority := facilityDaemon*8 + severity(line)
	var b []byte
	if l.form == conf.LogUnix {
		b = fmt.Appendf(nil, "<%d>%s sallyport: ", priority, now.Format(time.Stamp))
	} else {
		b = fmt.Appendf(nil, "<%d>1 %s %s sallyport - - - ", priority, now.UTC().Format(timeForm), l.host)
	}
	return append(b, line...)
}

// levelBytesMax is how far into a line its level is looked for: those who log write it first,
// or behind the time. What a client sent comes later.
const levelBytesMax = 64

// severity is the number of a line's level, RFC 5424, section 6.2.1.
func severity(line []byte) int {
	const informational, failure = 6, 3
	_, rest, found := bytes.Cut(line[:min(len(line), levelBytesMax)], []byte(`"level":"`))
	if !found {
		if len(line) > 0 && line[0] != '{' {
			return failure // no line of ours: a panic
		}
		return informational
	}
	for level, number := range map[string]int{"debug": 7, "warn": 4, "error": failure} {
		if bytes.HasPrefix(rest, []byte(level)) {
			return number
		}
	}
	return informational
}
