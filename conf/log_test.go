package conf

import (
	"strings"
	"testing"
)

func TestParseLogTarget(t *testing.T) {
	for written, want := range map[string]LogTarget{
		"/var/log/x.log":      {Form: LogFile, Address: "/var/log/x.log"},
		"./x.log":             {Form: LogFile, Address: "./x.log"},
		"unix:/dev/log":       {Form: LogUnix, Address: "/dev/log"},
		"udp:192.0.2.1:514":   {Form: LogUDP, Address: "192.0.2.1:514"},
		"udp:[2001:db8::1]:1": {Form: LogUDP, Address: "[2001:db8::1]:1"},
	} {
		if got, f := parseLogTarget(written); got != want || !f.none() {
			t.Errorf("%s: %+v, %v", written, got, f)
		}
	}
	for _, written := range []string{
		"", "syslog", "stdout", "log/", "unix:log", "unix:", "udp:localhost:514", "udp:192.0.2.1", "udp:192.0.2.1:0",
		"udp:", "unix:/" + strings.Repeat("x", 200), "/x\x00",
	} {
		if got, f := parseLogTarget(written); f.none() || f.hint == "" {
			t.Errorf("%q: %+v, %v", written, got, f)
		}
	}
}

func FuzzParseLogTarget(f *testing.F) {
	f.Add("unix:/dev/log")
	f.Add("udp:[::1]:514")
	f.Add("/var/log/x")
	f.Fuzz(func(t *testing.T, written string) {
		target, fault := parseLogTarget(written)
		if !fault.none() {
			return
		}
		again := target.Address
		if target.Form != LogFile {
			again = string(target.Form) + ":" + target.Address
		}
		if twice, fault := parseLogTarget(again); !fault.none() || twice != target {
			t.Errorf("%q: %+v, %+v", written, target, twice)
		}
	})
}
