package conf

import (
	"strings"
	"testing"
)

// servePlan is the part of a plan that the options of serve decide, in a few words.
func servePlan(p *Plan) string {
	var b strings.Builder
	for _, l := range p.Listeners {
		b.WriteString(l.Gift + "=" + l.Address + "(" + l.Where.Key + ") ")
	}
	site := p.Core.Sites[0]
	b.WriteString(strings.Join(site.Hosts, ","))
	if site.Certificate >= 0 {
		b.WriteString(" tls")
	}
	return b.String() + " " + p.Core.Apps[0].Name + "=" + p.Core.Apps[0].Sockets[0]
}

func TestServe(t *testing.T) {
	const app = "unix:/run/app.sock"
	socket := func(o Options) Options { o.Socket = app; return o }
	for _, c := range []struct {
		name string
		o    Options
		want string // the plan, or the mistakes
	}{
		{"least", socket(Options{}), "http0=:8080(--listen) * " + app + "=/run/app.sock"},
		{"relative", Options{Socket: "unix:tmp/app.sock"}, "http0=:8080(--listen) * unix:/etc/sallyport/tmp/app.sock=/etc/sallyport/tmp/app.sock"},
		{"addresses", socket(Options{Listen: []string{":80", "127.0.0.1:0"}}), "http0=:80(--listen) http1=127.0.0.1:0(--listen) * " + app + "=/run/app.sock"},
		{"TLS", socket(Options{TLS: "internal"}), "https0=:8443(--listen) * tls " + app + "=/run/app.sock"},
		{"TLS, address", socket(Options{TLS: "internal", Listen: []string{":443"}}), "https0=:443(--listen) * tls " + app + "=/run/app.sock"},
		{"host", socket(Options{Hosts: []string{"shop.localhost", "shop"}}), "https0=:8443(--listen) shop.localhost,shop tls " + app + "=/run/app.sock"},
		{"host, off", socket(Options{Hosts: []string{"example.com"}, TLS: "off"}), "http0=:8080(--listen) example.com " + app + "=/run/app.sock"},
		{"host, internal", socket(Options{Hosts: []string{"example.com"}, TLS: "internal"}), "https0=:8443(--listen) example.com tls " + app + "=/run/app.sock"},

		{"ACME", socket(Options{Hosts: []string{"example.com"}}), "https0=:8443(--listen) example.com tls " + app + "=/run/app.sock"},
		{"no TLS", socket(Options{TLS: "on"}), "--tls: is \"on\"\nhint: add --tls internal or --tls off\n"},
		{"no address", socket(Options{Listen: []string{"8080"}}), "--listen: has no colon\nhint: write \":8080\"\n"},
		{"twice", socket(Options{Listen: []string{":1", ":1"}}), "--listen: \":1\" is there already\nhint: leave one of them out\n"},
		{"no host", socket(Options{Hosts: []string{"a:80"}, TLS: "off"}), "--host: has a port\nhint: write \"a\", and the port in --listen\n"},
		{"host twice", socket(Options{Hosts: []string{"a", "A"}, TLS: "off"}), "--host: \"a\" is there already\nhint: leave one of them out\n"},
		{"no unix", Options{Socket: "/run/app.sock"}, "the app: lacks its unix:\nhint: write unix:/run/app.sock\n"},
		{
			"TCP",
			Options{Socket: "localhost:3000"},
			"the app: is not a unix socket: \"localhost:3000\"\nhint: " + tcpHint + "\n",
		},
		{"abstract", Options{Socket: "unix:@app"}, "the app: is an abstract socket, which any user may take\nhint: write unix:/run/shop/web.sock\n"},
		{
			"several",
			Options{Socket: "app", Listen: []string{"x"}, TLS: "on"},
			"--tls: is \"on\"\nhint: add --tls internal or --tls off\n" +
				"the app: is not a unix socket: \"app\"\nhint: apps answer on unix sockets only: write unix:/run/shop/web.sock\n" +
				"--listen: is not an address to listen on: \"x\"\nhint: write \":80\", \"127.0.0.1:8080\", \"[::1]:8080\", \"unix:/run/x.sock\" or \"fd:NAME\"; names are not looked up\n",
		},
	} {
		plan, mistakes := Serve(c.o, operator())
		got := mistakeText(mistakes)
		if plan != nil {
			got = servePlan(plan)
		}
		if got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// TestServeDefaults shows that what serve does not ask is as in a file.
func TestServeDefaults(t *testing.T) {
	file, mistakes := Parse("sallyport.toml", []byte("[listen]\nhttp = [\":8080\"]\nhttps = []\n[[site]]\nhost = \"*\"\napp = \"unix:/run/app.sock\"\n"), root())
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	plan, mistakes := Serve(Options{Socket: "unix:/run/app.sock"}, root())
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	if plan.File != "" || plan.Control == file.Control {
		t.Errorf("file %q, control %s", plan.File, plan.Control)
	}
	plan.File, plan.Control = file.File, file.Control
	for i := range plan.Listeners {
		plan.Listeners[i].Where, plan.Core.Listeners[i].Where = file.Listeners[i].Where, file.Core.Listeners[i].Where
	}
	plan.Core.Apps[0].Where = file.Core.Apps[0].Where
	if got, want := planText(t, plan), planText(t, file); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestServePaths shows where the control socket and the app's are, and that
// others have others.
func TestServePaths(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}
	at := operator()
	at.Env = func(name string) string { return env[name] }
	command := func(words ...string) Options { return Options{Command: words} }
	paths := func(o Options) (control, socket string) {
		plan, mistakes := Serve(o, at)
		if mistakes != nil {
			t.Fatal(mistakes)
		}
		return plan.Control, plan.Core.Apps[0].Sockets[0]
	}
	control, socket := paths(command("gunicorn", "a:b"))
	if !strings.HasPrefix(control, "/run/user/1000/sallyport/") || socket != strings.TrimSuffix(control, ".sock")+"/app.sock" {
		t.Errorf("%s, %s", control, socket)
	}
	if again, _ := paths(command("gunicorn", "a:b")); again != control {
		t.Errorf("%s and then %s", control, again)
	}
	known := map[string]bool{control: true}
	for _, o := range []Options{
		command("gunicorn", "a:c"),
		{Command: []string{"gunicorn", "a:b"}, Listen: []string{":80"}},
		{Socket: "unix:/run/a.sock"},
		{Socket: "unix:/run/b.sock"},
		{Socket: "unix:a.sock"},
	} {
		if other, _ := paths(o); known[other] {
			t.Errorf("%v: %s is there already", o, other)
		} else {
			known[other] = true
		}
	}
	at.Folder = "/elsewhere"
	if other, _ := paths(command("gunicorn", "a:b")); other == control {
		t.Error("two folders have one control socket")
	}
	env = map[string]string{}
	if control, socket := paths(command("gunicorn", "a:b")); control != "" || !strings.HasPrefix(socket, "/tmp/sallyport-1000-") {
		t.Errorf("without a folder: %q, %s", control, socket)
	}
	env = map[string]string{"TMPDIR": "/scratch"}
	if _, socket := paths(command("gunicorn", "a:b")); !strings.HasPrefix(socket, "/scratch/sallyport-1000-") {
		t.Errorf("%s", socket)
	}
}

// TestServeCommand shows the plan of an app that is started, and that all its
// mistakes come together.
func TestServeCommand(t *testing.T) {
	plan, mistakes := Serve(Options{Command: []string{"uvicorn", "a:b"}, User: "shop"}, root())
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	managed := plan.Managed[0]
	if got := strings.Join(managed.Argv, " "); got != "uvicorn --fd 3 a:b" || managed.User.Name != "shop" || plan.Core.Apps[managed.App].Name != "app" {
		t.Errorf("%s, %+v", got, managed)
	}
	_, mistakes = Serve(Options{Command: []string{"thin", "start"}, Listen: []string{"x"}, User: "root"}, root())
	var keys []string
	for _, m := range mistakes {
		keys = append(keys, m.Key)
	}
	if got := strings.Join(keys, ", "); got != "--listen, --user, thin start" {
		t.Error(got)
	}
	env := func(string) string { return "" }
	at := operator()
	at.Env = env
	plan, _ = Serve(Options{TLS: "internal", Socket: "unix:/x"}, at)
	if plan == nil || len(plan.Notices) != 2 || strings.Contains(mistakeText(plan.Notices), "write ") {
		t.Errorf("notices in the words of a file: %+v", plan)
	}
}
