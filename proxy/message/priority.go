package message

import "strings"

// A Priority is what a client says of the order of its responses (RFC 9218, section 4).
type Priority struct {
	Urgency     uint8 // 0 is the most urgent, 7 the least
	Incremental bool  // each part of the response is of use
}

// UsualPriority is that of a request that says nothing of it.
func UsualPriority() Priority { return Priority{Urgency: 3} }

// ParsePriority reads the value of a Priority field. What it does not know, it leaves as it
// is when nothing is said: "unknown priority parameters, priority parameters with out-of-range
// values, or values of unexpected types [...] MUST be ignored" RFC 9218, section 4.
func ParsePriority(value string) Priority {
	p := UsualPriority()
	for value != "" {
		var item string
		item, value, _ = strings.Cut(value, ",")
		switch item = strings.Trim(item, " \t"); {
		case len(item) == 3 && item[:2] == "u=" && '0' <= item[2] && item[2] <= '7':
			p.Urgency = item[2] - '0'
		case item == "i", item == "i=?1":
			p.Incremental = true
		case item == "i=?0":
			p.Incremental = false
		}
	}
	return p
}
