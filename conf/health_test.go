package conf

import (
	"testing"
	"time"
)

// TestHealthHost: checks ask for a host that leads to the app, and for none that is a pattern.
func TestHealthHost(t *testing.T) {
	const text = `
listen.https = []
[[site]]
host = ["*.pattern.test", "*"]
app = "shop"
[[site]]
host = "other.test"
app = "other"
[[site]]
host = ["*.shop.test", "shop.test", "more.test"]
[[site.route]]
path = "/shop/*"
app = "shop"
[[site]]
host = "*.only.test"
app = "only"
[app.shop]
socket = "unix:/run/shop.sock"
health = {}
[app.other]
socket = "unix:/run/other.sock"
health.every = "0s"
[app.only]
socket = "unix:/run/only.sock"
health = { path = "/up?x=%20", every = "1m" }
`
	plan, mistakes := Parse("sallyport.toml", []byte(text), Surroundings{UID: 1000, Processors: 1})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	want := map[string]*Health{
		"shop":  {Path: "/up", Host: "shop.test", Every: 10 * time.Second},
		"other": nil,
		"only":  {Path: "/up?x=%20", Host: "localhost", Every: time.Minute},
	}
	for _, app := range plan.Core.Apps {
		got := app.Health
		if (got == nil) != (want[app.Name] == nil) || got != nil && *got != *want[app.Name] {
			t.Errorf("%s: %+v, want %+v", app.Name, got, want[app.Name])
		}
	}
}
