package h2

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"sallyport/proxy/message"
)

// This file is apps that say what none should.

func hostiles() []hostile {
	ok := headOf(0, ":status: 200")
	list := []hostile{
		{name: "whole", frames: one(headOf(0, ":status: 200", "content-length: 2", "x: y"), dataOf(end, "ok")), said: "200 x=y (2) ok"},
		{name: "trailers only", frames: one(headOf(end, ":status: 200", "grpc-status: 5")), said: "200 grpc-status=5 (-1) "},
		{name: "trailers", frames: one(ok, dataOf(0, "a"), headOf(end, "grpc-status: 0")), said: "200 (-1) a grpc-status=0"},
		{name: "padding", frames: one(ok, bytesOf(frame(kindData, end|flagPadded, 1, append([]byte{3}, "ok\x00\x00\x00"...)...)...)), said: "200 (-1) ok"},
		{name: "interim", frames: one(headOf(0, ":status: 103", "link: a"), headOf(end, ":status: 204")), said: "103 link=a (0) 204 (0) "},
		{name: "HEAD", method: "HEAD", frames: one(headOf(end, ":status: 200", "content-length: 10")), said: "200 (10) "},
		{name: "304", frames: one(headOf(end, ":status: 304", "content-length: 10")), said: "304 (10) "},
		{name: "unknown frame", frames: one(bytesOf(frame(0x77, 0xff, 1, 1, 2, 3)...), headOf(end, ":status: 200")), said: "200 (-1) "},
		{name: "priority", frames: one(bytesOf(frame(kindPriority, 0, 1, 0, 0, 0, 3, 4)...), headOf(end, ":status: 200")), said: "200 (-1) "},
		{name: "reset with NO_ERROR behind the reply", frames: one(headOf(end, ":status: 200"), bytesOf(frame(kindReset, 0, 1, word(0)...)...)), said: "200 (-1) "},

		{name: "longer than its length", frames: one(headOf(0, ":status: 200", "content-length: 2"), dataOf(end, "okay")), said: "200 (2) ", err: message.ErrLengthDisagrees},
		{name: "longer by another frame", frames: one(headOf(0, ":status: 200", "content-length: 2"), dataOf(0, "ok"), dataOf(end, "ay")), said: "200 (2) o", err: message.ErrLengthDisagrees},
		{name: "shorter than its length", frames: one(headOf(0, ":status: 200", "content-length: 3"), dataOf(end, "ok")), said: "200 (3) ok", err: message.ErrLengthDisagrees},
		{name: "no body of a length", frames: one(headOf(end, ":status: 200", "content-length: 3")), said: "200 (3) ", err: message.ErrLengthDisagrees},
		{name: "trailers before the length", frames: one(headOf(0, ":status: 200", "content-length: 3"), headOf(end, "a: b")), said: "200 (3) ", err: message.ErrLengthDisagrees},
		{name: "two lengths", frames: one(headOf(0, ":status: 200", "content-length: 2", "content-length: 2")), err: message.ErrLengthTwice},
		{name: "body of HEAD", method: "HEAD", frames: one(ok, dataOf(end, "x")), said: "200 (-1) ", err: message.ErrLengthDisagrees},
		{name: "body of 204", frames: one(headOf(0, ":status: 204"), dataOf(end, "x")), said: "204 (0) ", err: message.ErrLengthDisagrees},
		{name: "body of 304", frames: one(headOf(0, ":status: 304"), dataOf(end, "x")), said: "304 (-1) ", err: message.ErrLengthDisagrees},
		{name: "length of 204", frames: one(headOf(end, ":status: 204", "content-length: 1")), err: message.ErrNoContentWithBody},
		{name: "length of 103", frames: one(headOf(0, ":status: 103", "content-length: 1")), err: message.ErrNoContentWithBody},
		{name: "end with 103", frames: one(headOf(end, ":status: 103")), err: message.ErrNoContentWithBody},
		{name: "101", frames: one(headOf(0, ":status: 101")), err: message.ErrUpgradeNotAsked},
		{name: "no status", frames: one(headOf(end, "a: b")), err: message.ErrPseudo},
		{name: "two", frames: one(headOf(end, ":status: 200", ":status: 200")), err: message.ErrPseudo},
		{name: "status behind a field", frames: one(headOf(end, "a: b", ":status: 200")), err: message.ErrPseudo},
		{name: "method", frames: one(headOf(end, ":status: 200", ":method: GET")), err: message.ErrPseudo},
		{name: "unknown pseudo field", frames: one(headOf(end, ":status: 200", ":x: y")), err: message.ErrPseudo},
		{name: "trailer with pseudo field", frames: one(ok, headOf(end, ":status: 200")), said: "200 (-1) ", err: message.ErrPseudo},
		{name: "trailer without end", frames: one(ok, headOf(0, "a: b")), said: "200 (-1) ", err: message.ErrTrailer},
		{name: "trailer with framing", frames: one(ok, headOf(end, "content-length: 5")), said: "200 (-1) ", err: message.ErrTrailer},
		{name: "trailer with transfer-encoding", frames: one(ok, headOf(end, "transfer-encoding: chunked")), said: "200 (-1) ", err: message.ErrConnectionField},
		{name: "body before the head", frames: one(dataOf(end, "x")), err: message.ErrFrames},
		{name: "body behind 103", frames: one(headOf(0, ":status: 103"), dataOf(end, "x")), said: "103 (0) ", err: message.ErrFrames},
		{name: "endless interim", frames: func(w *appWorld) (all [][]byte) {
			for range interimsMost + 2 {
				all = append(all, w.head(1, 0, ":status: 103"))
			}
			return all
		}, said: strings.Repeat("103 (0) ", interimsMost+1), err: message.ErrInterimTooMany},
		{name: "long head", frames: one(headOf(end, ":status: 200", "a: "+strings.Repeat("x", 900), "b: "+strings.Repeat("x", 900), "c: "+strings.Repeat("x", 900), "d: "+strings.Repeat("x", 900), "e: "+strings.Repeat("x", 900))), err: message.ErrHeadTooLong},
		{name: "long field", frames: one(headOf(end, ":status: 200", "a: "+strings.Repeat("x", 1100))), err: message.ErrFieldTooLong},
		{name: "many fields", frames: one(headOf(end, append([]string{":status: 200"}, slices.Repeat([]string{"a: b"}, 21)...)...)), err: message.ErrTooManyFields},
		{name: "reset", frames: one(bytesOf(frame(kindReset, 0, 1, word(8)...)...)), err: &message.ResetError{Code: message.CodeCancel}},
		{name: "reset with NO_ERROR within", frames: one(ok, dataOf(0, "x"), bytesOf(frame(kindReset, 0, 1, word(0)...)...)), said: "200 (-1) x", err: &message.ResetError{}},
		{name: "window of the stream", frames: one(bytesOf(frame(kindWindow, 0, 1, word(windowMost)...)...)), err: message.ErrWindow},
		{name: "no window of the stream", frames: one(bytesOf(frame(kindWindow, 0, 1, word(0)...)...)), err: message.ErrWindow},

		{name: "push", frames: one(bytesOf(frame(kindPush, flagEndHeaders, 1, 0, 0, 0, 2, 0x88)...)), err: message.ErrPushed, fatal: true},
		{name: "pushed stream", frames: one(bytesOf(frame(kindHeaders, flagEndHeaders|end, 2, 0x88)...)), err: message.ErrFrames, fatal: true},
		{name: "stream of the future", frames: one(bytesOf(frame(kindHeaders, flagEndHeaders|end, 3, 0x88)...)), err: message.ErrFrames, fatal: true},
		{name: "data of the future", frames: one(bytesOf(frame(kindData, 0, 3, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "data of no stream", frames: one(bytesOf(frame(kindData, 0, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "reset of the future", frames: one(bytesOf(frame(kindReset, 0, 3, word(0)...)...)), err: message.ErrFrames, fatal: true},
		{name: "window of the future", frames: one(bytesOf(frame(kindWindow, 0, 3, word(1)...)...)), err: message.ErrFrames, fatal: true},
		{name: "head behind the end", frames: func(w *appWorld) [][]byte {
			return [][]byte{w.head(1, end, ":status: 200"), w.head(1, end, ":status: 200")}
		}, said: "200 (-1) ", fatal: true},
		{name: "too long a frame", frames: one(bytesOf(appendHeader(nil, frameBytesLeast+1, kindData, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "padding longer than the frame", frames: one(ok, bytesOf(frame(kindData, flagPadded, 1, 5, 1)...)), said: "200 (-1) ", err: message.ErrFrames, fatal: true},
		{name: "broken compression", frames: one(bytesOf(frame(kindHeaders, flagEndHeaders|end, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)...)), err: message.ErrCompression, fatal: true},
		{name: "endless CONTINUATION", frames: func(*appWorld) [][]byte {
			all := [][]byte{frame(kindHeaders, 0, 1, 0x88)}
			return append(all, slices.Repeat([][]byte{frame(kindContinuation, 0, 1)}, 30)...)
		}, err: message.ErrHeadEndless, fatal: true},
		{name: "large CONTINUATION", frames: func(*appWorld) [][]byte {
			return [][]byte{frame(kindHeaders, 0, 1, 0x88), frame(kindContinuation, 0, 1, make([]byte, 9000)...)}
		}, err: message.ErrHeadEndless, fatal: true},
		{name: "frame within a head", frames: one(bytesOf(frame(kindHeaders, 0, 1, 0x88)...), bytesOf(frame(kindPing, 0, 0, make([]byte, 8)...)...)), err: message.ErrFrames, fatal: true},
		{name: "CONTINUATION of nothing", frames: one(bytesOf(frame(kindContinuation, flagEndHeaders, 1, 0x88)...)), err: message.ErrFrames, fatal: true},
		{name: "connection window", frames: one(bytesOf(frame(kindWindow, 0, 0, word(windowMost)...)...)), err: message.ErrWindow, fatal: true},
		{name: "no connection window", frames: one(bytesOf(frame(kindWindow, 0, 0, word(0)...)...)), err: message.ErrFrames, fatal: true},
		{name: "settings: window", frames: one(bytesOf(frame(kindSettings, 0, 0, 0, 4, 0xff, 0, 0, 0)...)), err: message.ErrWindow, fatal: true},
		{name: "settings: frame size", frames: one(bytesOf(frame(kindSettings, 0, 0, 0, 5, 0, 0, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "settings of a stream", frames: one(bytesOf(frame(kindSettings, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "half a setting", frames: one(bytesOf(frame(kindSettings, 0, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "goaway of a stream", frames: one(bytesOf(frame(kindGoAway, 0, 1, make([]byte, 8)...)...)), err: message.ErrFrames, fatal: true},
		{name: "short ping", frames: one(bytesOf(frame(kindPing, 0, 0, 1)...)), err: message.ErrFrames, fatal: true},
		{name: "settings flood", frames: func(*appWorld) [][]byte {
			return slices.Repeat([][]byte{frame(kindSettings, 0, 0)}, appControls+2)
		}, err: message.ErrControls, fatal: true},
		{name: "empty DATA flood", frames: func(w *appWorld) [][]byte {
			return append([][]byte{w.head(1, 0, ":status: 200")}, slices.Repeat([][]byte{frame(kindData, 0, 1)}, appControls+2)...)
		}, said: "200 (-1) ", err: message.ErrControls, fatal: true},
	}
	for name, field := range map[string]string{
		"CR": "a: b\rc", "LF": "a: b\nc", "CR LF": "a: b\r\nx: y", "NUL": "a: b\x00c", "DEL": "a: b\x7fc",
		"space first": "a:  b", "space last": "a: b ", "tab last": "a: b\t",
	} {
		list = append(list, hostile{name: "value: " + name, frames: one(headOf(end, ":status: 200", field)), err: message.ErrFieldValue})
		list = append(list, hostile{name: "trailer value: " + name, frames: one(ok, headOf(end, field)), said: "200 (-1) ", err: message.ErrFieldValue})
	}
	for name, field := range map[string]string{"space": "a b: c", "CR": "a\rb: c", "NUL": "a\x00: b", "colon": "a:b: c", "quote": "a\"b: c"} {
		list = append(list, hostile{name: "name: " + name, frames: one(headOf(end, ":status: 200", field)), err: message.ErrFieldName})
	}
	for _, field := range []string{"connection: close", "keep-alive: 1", "transfer-encoding: chunked", "upgrade: h2c", "proxy-connection: close", "te: gzip", "te: trailers"} {
		list = append(list, hostile{name: field, frames: one(headOf(end, ":status: 200", field)), err: message.ErrConnectionField})
	}
	for _, status := range []string{"", "20", "2000", "099", "600", "2x0", "-20", " 20", "999"} {
		list = append(list, hostile{name: "status " + status, frames: one(headOf(end, ":status: "+status)), err: message.ErrStatus})
	}
	for _, length := range []string{"-1", "+1", "1,1", "0x1", "", "99999999999999999999", "1 "} {
		err := message.ErrLength
		if length == "1 " {
			err = message.ErrFieldValue
		}
		list = append(list, hostile{name: "length " + length, frames: one(headOf(end, ":status: 200", "content-length: "+length)), err: err})
	}
	list = append(list, hostile{name: "upper case", frames: one(headOf(end, ":status: 200", "Xa: y")), err: message.ErrUpperCase})
	return list
}

// TestHostileApp: what an app may say, and what of it reaches whoever asked.
func TestHostileApp(t *testing.T) {
	for _, test := range hostiles() {
		t.Run(test.name, func(t *testing.T) {
			w := startApp(t, patience)
			if test.method == "" {
				test.method = "GET"
			}
			req := asked(test.method)
			k := w.call(req)
			defer k.End()
			w.greeted()
			said := bytes.Join(test.frames(w), nil)
			go func() { _, _ = w.conn.Write(said) }() // the connection may end before
			go io.Copy(io.Discard, w.conn)
			got, err := reading(k, req)
			if test.err == nil && err == nil && got != test.said {
				t.Errorf("read %q, want %q", got, test.said)
			}
			if fmt.Sprint(err) != fmt.Sprint(test.err) {
				t.Errorf("%q: %v, want %v", got, err, test.err)
			}
			if !strings.HasPrefix(test.said, got) {
				t.Errorf("read %q, which is no part of %q", got, test.said)
			}
			if test.fatal {
				w.ends(k)
				return
			}
			if !w.link.Reserve() {
				t.Error("the connection takes no calls any more")
				return
			}
			w.link.mu.Lock()
			w.link.taken--
			w.link.mu.Unlock()
		})
	}
}
