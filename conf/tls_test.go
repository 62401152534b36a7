package conf

import (
	"slices"
	"testing"
)

// anySite is a file with one site, to which tests add a line on top.
const anySite = `
[[site]]
host = "*"
app = "unix:/run/shop/web.sock"
`

func TestNamesOfAnySite(t *testing.T) {
	always := []string{"localhost", "127.0.0.1", "::1"}
	for host, want := range map[string][]string{
		"":              always,
		"Web1":          append(slices.Clone(always), "web1"),
		"web1.example":  append(slices.Clone(always), "web1.example"),
		"localhost":     always,
		"two words":     always,
		"*":             always,
		"*.example.com": always,
	} {
		at := operator()
		at.Host = host
		plan, mistakes := Parse("sallyport.toml", []byte(anySite), at)
		if mistakes != nil {
			t.Fatal(mistakes)
		}
		if got := plan.Keeper.Certificates[0].Hosts; !slices.Equal(got, want) {
			t.Errorf("on %q: got %q, want %q", host, got, want)
		}
	}
}

func TestAuthority(t *testing.T) {
	where := Place{File: "sallyport.toml", Key: "state"}
	at := operator()
	for _, c := range []struct {
		name, text string
		env        func(string) string
		want       *Authority
		notices    int
	}{
		{"home", anySite, at.Env, &Authority{
			"/home/operator/.local/state/sallyport/internal-ca.secret", "/home/operator/.local/state/sallyport/root.pem", where,
		}, 0},
		{
			"written", `state = "/srv/state"` + anySite, nil,
			&Authority{"/srv/state/internal-ca.secret", "/srv/state/root.pem", Place{"sallyport.toml", 1, "state"}}, 1,
		},
		{"nowhere", anySite, nil, &Authority{Where: where}, 2},
		{"not wanted", plain, nil, nil, 1},
	} {
		at.Env = c.env
		plan, mistakes := Parse("sallyport.toml", []byte(c.text), at)
		if mistakes != nil {
			t.Fatal(mistakes)
		}
		got := plan.Keeper.Authority
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
		// One is about the control socket.
		if len(plan.Notices) != c.notices {
			t.Errorf("%s: notices %v", c.name, plan.Notices)
		}
	}
}
