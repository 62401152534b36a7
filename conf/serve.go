package conf

import (
	"fmt"
	"path/filepath"
	"strings"
)

// This file makes a plan without a file: the arguments of serve become the tree
// that a file would have been, so that defaults and checks are the same.

// Options are the arguments of serve, as written.
type Options struct {
	Listen  []string // none: ":8080", or ":8443" where the app is served with TLS
	Hosts   []string // none: "*"
	TLS     string   // "internal", "off", or "" for what the hosts make of it
	Socket  string   // "unix:/run/app.sock", which may be relative to the folder; "" with a Command
	Command Words    // of the app to start; none with a Socket
	User    string   // of the Command; "": the owner of the folder
}

// Serve makes the plan of serve. Mistakes name the flag that they are about. The
// same options in the same surroundings have the same control socket.
func Serve(o Options, at Surroundings) (*Plan, []Mistake) {
	identity := strings.Join(append([]string{"serve", strings.Join(o.Listen, " "), o.Socket}, o.Command...), "\x00")
	if len(o.Command) > 0 || !strings.HasPrefix(o.Socket, "unix:/") {
		identity += "\x00" + at.Folder
	}
	managed := managedSocket(identity, at)
	tree, keys := o.tree(managed, at), newKeyTable()
	mistakes, notices := check("", tree, keys)
	p := newPlanner("", identity, tree, keys, at)
	p.resolve()
	p.plan.File = ""
	p.plan.Notices = append(p.plan.Notices, notices...)
	if len(o.Command) > 0 {
		p.command(o, managed)
	}
	mistakes = append(mistakes, p.mistakes...)
	for i := range mistakes {
		mistakes[i].byFlag()
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	p.plan.byFlags()
	return p.plan, nil
}

// tree is the tree of a file that says the same.
func (o Options) tree(managed string, at Surroundings) *value {
	secure := o.TLS != "off" && (o.TLS != "" || len(o.Hosts) > 0)
	listen, none := o.Listen, &value{shape: isList}
	if len(listen) == 0 {
		listen = []string{":8080"}
		if secure {
			listen = []string{":8443"}
		}
	}
	addresses := newTable(0)
	if secure {
		addresses.put("http", none)
		addresses.put("https", listOf(listen))
	} else {
		addresses.put("http", listOf(listen))
		addresses.put("https", none)
	}
	hosts := o.Hosts
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	site := newTable(0)
	site.put("host", listOf(hosts))
	if o.TLS != "" {
		site.put("tls", textOf(o.TLS))
	}
	socket, isUnix := strings.CutPrefix(o.Socket, "unix:")
	switch {
	case len(o.Command) > 0:
		socket = "unix:" + managed
	case isUnix && socket != "" && !strings.HasPrefix(socket, "@"):
		socket = "unix:" + absolutePath(socket, at)
	default:
		socket = o.Socket
	}
	site.put("app", textOf(socket))
	root := newTable(0)
	root.put("listen", addresses)
	root.put("site", &value{shape: isList, list: []*value{site}, headers: true})
	return root
}

func textOf(text string) *value { return &value{shape: isText, text: text} }

func listOf(texts []string) *value {
	list := &value{shape: isList}
	for _, text := range texts {
		list.list = append(list.list, textOf(text))
	}
	return list
}

// managedSocket is where boot makes the socket of an app that it starts: in a
// folder beside the control socket, or else in one of the user's own in TMPDIR.
func managedSocket(identity string, at Surroundings) string {
	folder, found := strings.CutSuffix(ControlPath(identity, at), ".sock")
	if !found {
		temporary := firstFolder(at.env("TMPDIR"))
		if temporary == "" {
			temporary = "/tmp"
		}
		folder = filepath.Join(temporary, fmt.Sprintf("sallyport-%d-%s", at.UID, shortHash(identity)))
	}
	return filepath.Join(folder, "app.sock")
}

// command adds the app that a command starts to the plan.
func (p *planner) command(o Options, socket string) {
	account, f := p.appUser(o.User)
	if !f.none() {
		p.mistake(Place{Key: "--user"}, f)
	}
	argv, f := launch(o.Command, socket)
	if !f.none() {
		p.mistake(Place{Key: strings.Join(o.Command, " ")}, f)
	}
	if len(p.plan.Core.Apps) == 0 {
		return // refused already: its socket cannot be
	}
	p.plan.Core.Apps[0].Name = "app"
	p.plan.Managed = []Managed{{Argv: argv, User: account, Where: Place{Key: o.Command[0]}}}
}

// byFlags names flags in all places of a plan.
func (p *Plan) byFlags() {
	for i := range p.Listeners {
		p.Listeners[i].Where.byFlag()
		p.Core.Listeners[i].Where.byFlag()
	}
	for i := range p.Core.Apps {
		p.Core.Apps[i].Where.byFlag()
	}
	for i := range p.Keeper.Certificates {
		p.Keeper.Certificates[i].Where.byFlag()
	}
	for i := range p.Notices {
		p.Notices[i].byFlag()
	}
}

// byFlag names the flag in the place of the key.
func (p *Place) byFlag() {
	switch p.Key {
	case "listen.http", "listen.https":
		p.Key = "--listen"
	case "site.host":
		p.Key = "--host"
	case "site.tls":
		p.Key = "--tls"
	case "site.app":
		p.Key = "the app"
	}
}

// byFlag says what a mistake is about in the words of the command line.
func (m *Mistake) byFlag() {
	m.Place.byFlag()
	words := strings.NewReplacer(
		tlsHint, "add --tls internal or --tls off",
		"tls is not written", "--tls is not given",
		"the port in [listen]", "the port in --listen",
		`write control = "/path/of/a/folder/of/yours/control.sock"`, "set XDG_RUNTIME_DIR to a folder of yours",
		`write state = "/path/of/a/folder/of/yours"`, "set XDG_STATE_HOME to a folder of yours",
		`, or the name of an [app.NAME]`, "",
	)
	m.What, m.Hint = words.Replace(m.What), words.Replace(m.Hint)
}
