package conf

import (
	"strings"
	"testing"
)

// TestLargeBodies: each app that is buffered, and may be sent more than its share of the
// spool, is noticed.
func TestLargeBodies(t *testing.T) {
	const sites = `
workers = 1
[[site]]
host = "example.com"
tls = "off"
app = "large"
route = [
  { path = "/none", app = "none" }, { path = "/fits", app = "fits" },
  { path = "/off", app = "off" }, { path = "/on", app = "on", buffer = true },
]
[app]
large = { socket = "unix:/run/large", max_body = "65MiB" }
none = { socket = "unix:/run/none", max_body = 0 }
fits = { socket = "unix:/run/fits" }
off = { socket = "unix:/run/off", max_body = 0, buffer = false }
on = { socket = "unix:/run/on", max_body = "1GiB", buffer = false }
[spool]
memory = "128MiB"
`
	tree, mistakes := grow("sallyport.toml", []byte(sites))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	p := newPlanner("sallyport.toml", "/etc/sallyport.toml", tree, newKeyTable(), operator())
	p.resolve()
	if len(p.mistakes) > 0 {
		t.Fatal(p.mistakes)
	}
	var got []string
	for _, n := range p.plan.Notices {
		if strings.HasPrefix(n.What, "max_body is ") {
			got = append(got, n.Key)
		}
	}
	if want := "app.none app.on app.large"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}
