package h3

import "strings"

// parsePriority reads the value of a Priority field, as h2's does (RFC 9218, section 4): what it
// does not know, it leaves as it is when nothing is said.
func parsePriority(value string) (urgency int8, incremental bool) {
	urgency = 3
	for value != "" {
		var item string
		item, value, _ = strings.Cut(value, ",")
		switch item = strings.Trim(item, " \t"); {
		case len(item) == 3 && item[:2] == "u=" && '0' <= item[2] && item[2] <= '7':
			urgency = int8(item[2] - '0')
		case item == "i", item == "i=?1":
			incremental = true
		case item == "i=?0":
			incremental = false
		}
	}
	return urgency, incremental
}
