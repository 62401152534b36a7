package conf

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		written string
		want    time.Duration
		hint    string // of the fault; "" when there is none
	}{
		{"0", 0, ""},
		{"0s", 0, ""},
		{"250ms", 250 * time.Millisecond, ""},
		{"1.5s", 1500 * time.Millisecond, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"30", 0, `write "30s", if seconds are meant`},
		{"30 s", 0, `write "30s"`},
		{"5min", 0, `write "5m"`},
		{"2 Hours", 0, `write "2h"`},
		{"1d", 0, `write hours: 1 day is "24h"`},
		{"3 fortnights", 0, "the units are ms, s, m and h"},
		{"5us", 0, "the units are ms, s, m and h"},
		{"", 0, `write a number and ms, s, m or h, as "30s"`},
		{"never", 0, `write a number and ms, s, m or h, as "30s"`},
		{"-1s", 0, `write "0s" to switch it off`},
		{"9000h", 0, `write "0s" to switch the limit off`},
	} {
		got, f := parseDuration(c.written)
		if got != c.want && f.none() || f.hint != c.hint || f.none() != (c.hint == "") {
			t.Errorf("parseDuration(%q) = %v, %+v; want %v, hint %q", c.written, got, f, c.want, c.hint)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		written string
		want    int64
		hint    string // of the fault; "" when want is not 0
	}{
		{"8190", 8190, ""},
		{"32KiB", 32 << 10, ""},
		{"64MiB", 64 << 20, ""},
		{"4GiB", 4 << 30, ""},
		{"64MB", 0, `write "64MiB"`},
		{"64m", 0, `write "64MiB"`},
		{"64 KiB", 0, `write "64KiB"`},
		{"512B", 0, "write 512"},
		{"1TiB", 0, "the units are KiB, MiB and GiB"},
		{"1.5GiB", 0, `write a whole number of bytes, or one with KiB, MiB or GiB, as "64MiB"`},
		{"-1", 0, `write a whole number of bytes, or one with KiB, MiB or GiB, as "64MiB"`},
		{"much", 0, `write a whole number of bytes, or one with KiB, MiB or GiB, as "64MiB"`},
		{"9999999999GiB", 0, ""},
		{"99999999999999999999", 0, ""},
	} {
		got, f := parseSize(c.written)
		if got != c.want || f.none() != (c.want != 0) || f.hint != c.hint {
			t.Errorf("parseSize(%q) = %v, %+v; want %v, hint %q", c.written, got, f, c.want, c.hint)
		}
	}
}

func TestCheckShare(t *testing.T) {
	for written, want := range map[string]bool{
		"50%": true, "1%": true, "100%": true, "64MiB": true,
		"0%": false, "101%": false, "half": false, "%": false,
	} {
		if got := checkShare(written); got.none() != want {
			t.Errorf("checkShare(%q) = %+v, want fine: %v", written, got, want)
		}
	}
}
