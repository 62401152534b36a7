package message

import (
	"net/http"
	"testing"
)

func TestStatusText(t *testing.T) {
	for status := range 1000 {
		want := http.StatusText(status)
		switch status {
		case 306: // "(Unused)" RFC 9110, section 15.4.7
			want = ""
		case 413: // RFC 9110's names, where net/http keeps those of RFC 7231
			want = "Content Too Large"
		case 414:
			want = "URI Too Long"
		case 416:
			want = "Range Not Satisfiable"
		case 422:
			want = "Unprocessable Content"
		}
		if want == "" {
			want = "Unknown"
		}
		if got := StatusText(status); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}

func TestInterim(t *testing.T) {
	for status, want := range map[int]bool{100: true, 101: false, 102: true, 103: true, 199: true, 200: false, 599: false} {
		if got := (&Response{Status: status}).Interim(); got != want {
			t.Errorf("%d: %v", status, got)
		}
	}
}
