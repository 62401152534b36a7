package main

import (
	"slices"
	"strings"
	"testing"

	"sallyport/conf"
	"sallyport/sockets"
)

// TestKeepListeners shows which listeners of the plan in force are those of another one.
func TestKeepListeners(t *testing.T) {
	const any = "127.0.0.1:0"
	bound := []listening{
		{Gift: "http0", Text: any, Address: "127.0.0.1:1000"},
		{Gift: "https0", Text: any, Address: "127.0.0.1:1001", Secure: true, Slots: 4},
		{Gift: "http1", Text: ":80", Address: "[::]:80", Given: true},
	}
	for _, c := range []struct {
		name   string
		wanted []listening
		kept   []string
		closed []string
	}{
		{"the same", []listening{{Text: any}, {Text: ":80"}, {Text: any, Secure: true}}, []string{"127.0.0.1:1000", "[::]:80", "127.0.0.1:1001"}, nil},
		{"a kind finds itself first", []listening{{Text: any, Secure: true}}, []string{"127.0.0.1:1001"}, []string{"closed: http on 127.0.0.1:1000", "closed: http on [::]:80"}},
		{"another kind", []listening{{Text: ":80", Secure: true}}, []string{"[::]:80"}, []string{"closed: http on 127.0.0.1:1000", "closed: https on 127.0.0.1:1001"}},
		{"one more", []listening{{Text: any}, {Text: any}, {Text: any}}, []string{"127.0.0.1:1000", "127.0.0.1:1001", ""}, []string{"closed: http on [::]:80"}},
	} {
		a := &answer{Plan: &conf.Plan{Listeners: make([]conf.Listener, len(c.wanted))}, Main: duty{Listeners: c.wanted}}
		a.keepListeners(bound)
		var kept []string
		for _, l := range a.Main.Listeners {
			kept = append(kept, l.Address)
			if l.Given != (l.Address == "[::]:80") || (l.Slots == 4) != (l.Address == "127.0.0.1:1001") {
				t.Errorf("%s: %+v", c.name, l)
			}
		}
		if !slices.Equal(kept, c.kept) || !slices.Equal(a.Closed, c.closed) || !strings.Contains(a.InUse, any+", "+any+", :80") {
			t.Errorf("%s: %q, %q, %s", c.name, kept, a.Closed, a.InUse)
		}
	}
}

// TestReadRunning shows what a planner refuses of what a service says of its plan.
func TestReadRunning(t *testing.T) {
	seal := func(r runningPlan) sockets.Gifts {
		fd, err := sealJSON("running", r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sockets.CloseAll([]int{fd}) })
		return sockets.Gifts{{Name: "running", FD: fd}}
	}
	fine := runningPlan{Version: version(), Plan: &conf.Plan{File: "/a.toml"}}
	other, none := fine, fine
	other.Version, none.Plan = "another", nil
	for _, c := range []struct {
		said  string
		gifts sockets.Gifts
		want  string // "" is a plan
	}{
		{`{"number":7}`, seal(fine), ""},
		{`{"number":7}`, seal(other), "that takes a restart"},
		{`{"number":7}`, seal(none), "that takes a restart"},
		{`{"number":7}`, nil, "its plan was not told"},
		{`{"error":"the service\u001b ends"}`, nil, "not reloaded: the service"},
		{`nonsense`, seal(fine), "invalid character"},
	} {
		q := inquiry{Said: []byte(c.said), Ours: true}
		was, err := q.readRunning(c.gifts)
		switch {
		case c.want == "":
			if err != nil || was.number != 7 || !was.ours || was.Plan.File != "/a.toml" {
				t.Errorf("%s: %+v, %v", c.said, was, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\x1b"):
			t.Errorf("%s: %v, want %q", c.said, err, c.want)
		}
	}
}

// TestFollowsPlan shows what of a start is left to be done where a plan is in force already.
func TestFollowsPlan(t *testing.T) {
	planOf := func(app string, authority bool, notices ...string) *conf.Plan {
		plan := &conf.Plan{Core: conf.Core{Workers: 1, Apps: []conf.App{{Name: app}}}}
		if authority {
			plan.Keeper.Authority = &conf.Authority{}
		}
		for _, notice := range notices {
			plan.Notices = append(plan.Notices, conf.Mistake{Place: conf.Place{Key: "tls"}, What: notice})
		}
		return plan
	}
	was := &runningPlan{Plan: planOf("shop", true, "old"), Keeper: true, number: 7}
	for _, c := range []struct {
		name    string
		plan    *conf.Plan
		spools  int
		notices int
	}{
		{"the same", planOf("shop", true, "old"), 0, 0},
		{"a notice", planOf("shop", true, "old", "new"), 0, 1},
		{"another app", planOf("blog", true), 4, 0},
	} {
		a := &answer{Plan: c.plan, Spools: 4, Authority: true, Main: duty{Empty: []string{"part", "board"}}}
		a.follow(was)
		if a.Spools != c.spools || (c.spools == 0) != slices.Equal(a.Main.Empty, []string{"part"}) || len(a.Notices) != c.notices ||
			a.Authority || !a.Keeper || a.Main.Follows != 7 {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	a := &answer{Plan: planOf("shop", true), Authority: true}
	if a.follow(&runningPlan{Plan: planOf("shop", false)}); !a.Authority {
		t.Error("the first internal CA has no files")
	}
	if a.follow(&runningPlan{Plan: &conf.Plan{File: "/other"}}); a.Plan != nil || len(a.Mistakes) != 1 {
		t.Errorf("another file: %+v", a)
	}
}

// TestKeepIssuance shows that a plan goes on with the registrar that runs, and says what would take
// another one.
func TestKeepIssuance(t *testing.T) {
	planOf := func(r *conf.Registrar, acme *conf.ACME) *conf.Plan {
		plan := &conf.Plan{Registrar: r, Users: conf.Users{Registrar: conf.ID{UID: 7, GID: 7}}}
		if plan.Keeper.ACME = acme; acme != nil {
			plan.Keeper.Certificates = []conf.Certificate{{ACME: true, Where: conf.Place{Key: "site.host"}}}
		}
		return plan
	}
	runs, folder := &conf.Registrar{CA: "https://ca.test", HTTP: true}, &conf.ACME{Folder: "/state/certificates"}
	for _, c := range []struct {
		name      string
		was, plan *conf.Plan
		want      []string // keys of what is refused
	}{
		{"neither", planOf(nil, nil), planOf(nil, nil), nil},
		{"the first", planOf(nil, nil), planOf(runs, folder), []string{"site.host"}},
		{"the last is gone", planOf(runs, folder), planOf(nil, nil), nil},
		{"in memory now", planOf(runs, folder), planOf(&conf.Registrar{CA: runs.CA, HTTP: true}, &conf.ACME{}), nil},
		{"another CA", planOf(runs, folder), planOf(&conf.Registrar{CA: "https://other.test", HTTP: true}, folder), []string{"tls.ca"}},
		{"no challenge", planOf(runs, folder), planOf(&conf.Registrar{CA: runs.CA}, folder), []string{"listen"}},
	} {
		var refused []string
		for _, mistake := range (&runningPlan{Plan: c.was}).keepIssuance(c.plan) {
			refused = append(refused, mistake.Key)
		}
		if !slices.Equal(refused, c.want) {
			t.Errorf("%s: refused %q, want %q", c.name, refused, c.want)
		}
		if c.was.Registrar != nil && (c.plan.Registrar != runs || c.plan.Keeper.ACME != folder) {
			t.Errorf("%s: another registrar", c.name)
		}
	}
}

// TestLastingSlots shows that the UDP sockets of a listener that stays are those of the start.
func TestLastingSlots(t *testing.T) {
	for _, c := range []struct {
		was, now listening
		workers  int    // now
		want     string // key of what is refused
	}{
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":443", Secure: true, Slots: 4}, 1, ""},
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":443", Secure: true, Slots: 32}, 2, ""}, // more processors
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":443", Secure: true, Slots: 12}, 3, "workers"},
		{listening{Text: ":443", Secure: true, Slots: sockets.SlotsMax}, listening{Text: ":443", Secure: true, Slots: sockets.SlotsMax}, 100, ""},
		{listening{Text: ":443", Secure: true}, listening{Text: ":443", Secure: true, Slots: 8}, 2, "listen.h3"},
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":443", Secure: true}, 2, "listen.h3"},
		{listening{Text: ":443", Secure: true, Given: true}, listening{Text: ":443", Secure: true, Slots: 8}, 2, ""},
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":8443", Secure: true, Slots: 12}, 3, ""},
		{listening{Text: ":443", Secure: true, Slots: 8}, listening{Text: ":443"}, 3, ""},
	} {
		key := ""
		planOf := func(l listening) *conf.Plan { return &conf.Plan{Workers: c.workers, Core: conf.Core{H3: l.Slots > 0}} }
		was := &runningPlan{Plan: planOf(c.was), Bound: []listening{c.was}}
		for _, mistake := range was.lastingSlots(planOf(c.now), []listening{c.now}) {
			key += mistake.Key
		}
		if key != c.want {
			t.Errorf("%+v to %+v: %q, want %q", c.was, c.now, key, c.want)
		}
	}
}
