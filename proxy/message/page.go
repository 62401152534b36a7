package message

import "strconv"

// A Page is an answer of our own: a status and a line that says why.
type Page struct {
	Status   int
	Text     string // one line; "" for the status alone
	Location string // of a redirect
	ID       []byte // X-Request-Id; nil if it has none
	HSTS     []byte // Strict-Transport-Security; nil for none
}

// retryAfter is when a client may try again that was told that nobody has time (503), in
// seconds: "Retry-After", RFC 9110, section 10.2.3.
const retryAfter = "5"

// retryRate is when one may that has asked too much, likewise: rates are by the second.
const retryRate = "1"

// Send sends p as the whole answer of stream.
func (p *Page) Send(stream Stream) error {
	body := make([]byte, 0, 128)
	body = strconv.AppendInt(body, int64(p.Status), 10)
	body = append(body, ' ')
	body = append(body, StatusText(p.Status)...)
	if p.Text != "" {
		body = append(body, ": "...)
		body = append(body, p.Text...)
	}
	body = append(body, '\n')
	resp := Response{Status: p.Status, Length: int64(len(body))}
	resp.Fields.Add("Content-Type", []byte("text/plain; charset=utf-8"))
	if p.Location != "" {
		resp.Fields.Add("Location", []byte(p.Location))
	}
	switch p.Status {
	case 429:
		resp.Fields.Add("Retry-After", []byte(retryRate))
	case 503:
		resp.Fields.Add("Retry-After", []byte(retryAfter))
	}
	if len(p.ID) > 0 {
		resp.Fields.Add("X-Request-Id", p.ID)
	}
	if len(p.HSTS) > 0 {
		resp.Fields.Add("Strict-Transport-Security", p.HSTS)
	}
	if err := stream.Reply(&resp); err != nil {
		return err
	}
	if _, err := stream.Write(body); err != nil {
		return err
	}
	return stream.Finish(nil)
}
