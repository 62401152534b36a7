package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// shown is a configuration with something of everything that plan shows.
const shown = `state = "{dir}/state"
listen = { http = ["127.0.0.1:8080"], https = ["127.0.0.1:8443", "unix:{dir}/https.sock"] }

[[site]]
host = ["shop.test", "*.shop.test"]
app = "shop"
tls = { cert = "shop.pem", key = "shop.key" }
[[site.route]]
path = "/live/*"
app = "unix:{dir}/live.sock"

[[site]]
host = "localhost"
app = "shop"

[[site]]
host = "plain.test"
app = "shop"
tls = "off"

[app.shop]
socket = ["unix:{dir}/a.sock", "unix:{dir}/b.sock"]
`

// TestPlan holds the two forms of plan, which programs and people rely on.
func TestPlan(t *testing.T) {
	needRoot(t) // ids are part of it
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test", "*.shop.test")
	s.write("sallyport.toml", shown)
	control := regexp.MustCompile(`[0-9a-f]{16}\.sock`)
	columns := regexp.MustCompile(`(\S)  +`) // as wide as the scene's folder is long
	for golden, command := range map[string]string{
		"testdata/plan.json": "sallyport plan --json",
		"testdata/plan.txt":  "sallyport plan",
	} {
		out, code := s.shell(command)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s", command, code, out)
		}
		got := control.ReplaceAllString(strings.ReplaceAll(out, s.dir, "{dir}"), "{hash}.sock")
		got = columns.ReplaceAllString(got, "$1  ")
		if *update {
			s.must(os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s printed\n%s\nwant %v\n%s", command, got, err, want)
		}
	}
}
