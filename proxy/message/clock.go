package message

import (
	"sync/atomic"
	"time"
)

// A Clock is the value of the Date field, formatted once a second. The zero value is ready.
type Clock struct{ date atomic.Pointer[dateText] }

type dateText struct {
	second int64
	text   []byte
}

// Date is the value for now. "An origin server with a clock MUST generate a Date header
// field" RFC 9110, section 6.6.1, and puma and others leave it to us.
func (c *Clock) Date(now time.Time) []byte {
	date := c.date.Load()
	if date == nil || date.second != now.Unix() {
		date = &dateText{now.Unix(), now.UTC().AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")}
		c.date.Store(date)
	}
	return date.text
}
