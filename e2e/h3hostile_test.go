package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
)

// h3Head is the HEADERS frame of a request: GET of / at the shop, with fields put in place of these, or behind
// them. One that is put in place with an empty value is left out.
func h3Head(t *testing.T, instead map[string]string, more ...string) []byte {
	t.Helper()
	var section bytes.Buffer
	encoder := qpack.NewEncoder(&section)
	write := func(name, value string) {
		if err := encoder.WriteField(qpack.HeaderField{Name: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{":method", ":scheme", ":authority", ":path"} {
		value := map[string]string{":method": "GET", ":scheme": "https", ":authority": "shop.test", ":path": "/"}[name]
		if other, is := instead[name]; is {
			value = other
		}
		if value != "" {
			write(name, value)
		}
	}
	for i := 0; i < len(more); i += 2 {
		write(more[i], more[i+1])
	}
	return h3Frame(1, section.Bytes())
}

// TestH3Malformed: a malformed request gets 400, or the reset that RFC 9114 has for it, its connection goes on, and
// no app hears of it.
func TestH3Malformed(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	none := map[string]string{}
	for name, head := range map[string][]byte{
		"upper case":                h3Head(t, none, "X-Upper", "x"),
		"a name with a space":       h3Head(t, none, "x y", "x"),
		"no name":                   h3Head(t, none, "", "x"),
		"a line break":              h3Head(t, none, "x", "y\r\nz: 1"),
		"a zero byte":               h3Head(t, none, "x", "y\x00z"),
		"no method":                 h3Head(t, map[string]string{":method": ""}),
		"method twice":              h3Head(t, none, ":method", "GET"),
		"a method that is none":     h3Head(t, map[string]string{":method": "GE T"}),
		"no scheme":                 h3Head(t, map[string]string{":scheme": ""}),
		"no path":                   h3Head(t, map[string]string{":path": ""}),
		"a path without slash":      h3Head(t, map[string]string{":path": "x"}),
		"a path with a space":       h3Head(t, map[string]string{":path": "/ HTTP/1.1"}),
		"nobody":                    h3Head(t, map[string]string{":authority": ""}),
		"user information":          h3Head(t, map[string]string{":authority": "a@shop.test"}),
		"another host":              h3Head(t, none, "host", "other.test"),
		"pseudo behind fields":      h3Head(t, map[string]string{":path": ""}, "x", "y", ":path", "/"),
		"a status":                  h3Head(t, none, ":status", "200"),
		"an unknown pseudo":         h3Head(t, none, ":x", "y"),
		"connection":                h3Head(t, none, "connection", "close"),
		"keep-alive":                h3Head(t, none, "keep-alive", "1"),
		"transfer-encoding":         h3Head(t, none, "transfer-encoding", "chunked"),
		"upgrade":                   h3Head(t, none, "upgrade", "websocket"),
		"te":                        h3Head(t, none, "te", "gzip"),
		"two lengths":               h3Head(t, none, "content-length", "1", "content-length", "2"),
		"a length that is none":     h3Head(t, none, "content-length", "+0"),
		"a length without a body":   h3Head(t, none, "content-length", "5"),
		"a protocol of GET":         h3Head(t, none, ":protocol", "websocket"),
		"CONNECT with a path":       h3Head(t, map[string]string{":method": "CONNECT"}),
		"more than its length":      append(h3Head(t, map[string]string{":method": "POST"}, "content-length", "1"), h3Frame(0, []byte("12"))...),
		"less than its length":      append(h3Head(t, map[string]string{":method": "POST"}, "content-length", "3"), h3Frame(0, []byte("12"))...),
		"pseudo in the trailer":     append(append(h3Head(t, map[string]string{":method": "POST"}), h3Frame(0, []byte("12"))...), h3Frame(1, []byte{0, 0, 0xc0 | 17})...),
		"upper case in the trailer": append(append(h3Head(t, map[string]string{":method": "POST"}), h3Frame(0, []byte("12"))...), h3Frame(1, append([]byte{0, 0, 0x22}, "ABx"[:2]+"\x01x"...))...),
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := s.dialH3(h)
			s.must(err)
			defer raw.CloseWithError(0x100, "")
			qs, err := raw.request(head)
			s.must(err)
			s.must(qs.Close())
			status, err := h3Status(qs)
			reset, isReset := errors.AsType[*quic.StreamError](err)
			if status < "400" && !(isReset && reset.ErrorCode == 0x10e) {
				t.Errorf("status %s, %v", status, err)
			}
			good, err := raw.request(h3Get())
			s.must(err)
			s.must(good.Close())
			if status, err := h3Status(good); status != "200" {
				t.Errorf("the connection: %s, %v", status, err)
			}
		})
	}
	await(t, "the log", func() bool { return len(h.find("request answered", "status=200")) >= 32 })
	for _, l := range h.find("request answered") {
		if !strings.Contains(l.text, `"status":200`) && strings.Contains(l.text, `"app_ms"`) {
			t.Errorf("an app heard of it: %s", l.text)
		}
	}
}

// h3Status is the status of an answer, which is read to its end; "-" if there is none.
func h3Status(qs *quic.Stream) (string, error) {
	all, err := io.ReadAll(qs)
	if len(all) < 3 || all[0] != 1 {
		return "-", err
	}
	n, used := int(all[1]), 2
	if all[1]>>6 == 1 {
		n, used = int(all[1]&0x3f)<<8|int(all[2]), 3
	}
	if len(all) < used+n {
		return "-", err
	}
	field, decodeErr := qpack.NewDecoder().Decode(all[used : used+n])()
	return field.Value, errors.Join(err, decodeErr)
}

// TestH3Faults: what breaks the framing of HTTP/3 ends the connection, with the code that the RFC has for it.
func TestH3Faults(t *testing.T) {
	s := newScene(t)
	h := s.h3Shop("node", "")
	uni := func(b ...byte) func(*h3Raw) error {
		return func(c *h3Raw) error {
			qs, err := c.OpenUniStream()
			if err == nil {
				_, err = qs.Write(b)
			}
			return err
		}
	}
	both := func(all ...func(*h3Raw) error) func(*h3Raw) error {
		return func(c *h3Raw) (err error) {
			for _, do := range all {
				err = errors.Join(err, do(c))
			}
			return err
		}
	}
	control := func(b ...byte) func(*h3Raw) error {
		return func(c *h3Raw) error { _, err := c.control.Write(b); return err }
	}
	request := func(b ...byte) func(*h3Raw) error {
		return func(c *h3Raw) error { _, err := c.request(b); return err }
	}
	for name, c := range map[string]struct {
		do   func(*h3Raw) error
		want quic.ApplicationErrorCode
	}{
		"two control streams":     {uni(0, 4, 0), 0x103},
		"two encoders":            {both(uni(2), uni(2)), 0x103},
		"two decoders":            {both(uni(3), uni(3)), 0x103},
		"a push":                  {uni(1, 0), 0x103},
		"the control stream ends": {func(c *h3Raw) error { return c.control.Close() }, 0x104},
		"the control stream is reset": {func(c *h3Raw) error {
			qs, err := c.request(h3Get())
			if err == nil {
				err = qs.Close()
			}
			_, answerErr := h3Status(qs) // by then the stream is known for what it is
			c.control.CancelWrite(0x100)
			return errors.Join(err, answerErr)
		}, 0x104},
		"SETTINGS twice":              {control(4, 0), 0x105},
		"DATA on the control stream":  {control(0, 0), 0x105},
		"PRIORITY of HTTP/2":          {control(2, 0), 0x105},
		"a GOAWAY that grows":         {control(7, 1, 0, 7, 1, 1), 0x108},
		"a push that is cancelled":    {control(3, 1, 0), 0x108},
		"fewer pushes than before":    {control(0xd, 1, 2, 0xd, 1, 1), 0x108},
		"DATA before a head":          {request(0, 1, 'x'), 0x105},
		"SETTINGS in a request":       {request(4, 0), 0x105},
		"a reference to a table":      {request(1, 3, 1, 0, 0x80), 0x200},
		"an index beyond the table":   {request(1, 4, 0, 0, 0xff, 0x7f), 0x200},
		"a head that is not complete": {func(c *h3Raw) error { qs, err := c.request([]byte{1, 9, 0, 0}); return errors.Join(err, qs.Close()) }, 0x106},
		"data behind a trailer":       {request(append(h3Get(), 1, 2, 0, 0, 0, 1, 'x')...), 0x105},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := s.dialH3(h)
			s.must(err)
			defer raw.CloseWithError(0x100, "")
			s.must(c.do(raw))
			select {
			case <-raw.Context().Done():
			case <-t.Context().Done():
			}
			ended, is := errors.AsType[*quic.ApplicationError](context.Cause(raw.Context()))
			if !is || !ended.Remote || ended.ErrorCode != c.want {
				t.Errorf("%v, want %#x", context.Cause(raw.Context()), c.want)
			}
		})
	}
}
