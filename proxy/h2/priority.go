package h2

import "strings"

// A priority is what a client says of the order of its responses (RFC 9218, section 4).
type priority struct {
	urgency     uint8 // 0 is the most urgent
	incremental bool  // each part of the response is of use
}

const (
	urgencyDefault = 3
	urgencyMost    = 7
)

// parsePriority reads the value of a Priority field. What it does not know, it leaves as it
// is when nothing is said: "unknown priority parameters, priority parameters with out-of-range
// values, or values of unexpected types [...] MUST be ignored" RFC 9218, section 4.
func parsePriority(value string) priority {
	p := priority{urgency: urgencyDefault}
	for value != "" {
		var item string
		item, value, _ = strings.Cut(value, ",")
		switch item = strings.Trim(item, " \t"); {
		case len(item) == 3 && item[:2] == "u=" && '0' <= item[2] && item[2] <= '0'+urgencyMost:
			p.urgency = item[2] - '0'
		case item == "i", item == "i=?1":
			p.incremental = true
		case item == "i=?0":
			p.incremental = false
		}
	}
	return p
}
