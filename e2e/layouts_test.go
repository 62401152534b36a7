package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// A layout is a way from the core to an app's socket, broken in one place. Folder
// and socket are app and app/web.sock of the scene, owned by nobody.
type layout struct {
	name     string
	breaks   string // by a shell, after the app has begun to listen
	path     string // in the configuration; "" for {dir}/app/web.sock
	says     string // what check prints: the component, and what is wrong with it
	mend     string // a shell line; "" runs the printed hint itself
	instead  string // the path that the hint asks for, where mending is writing another one
	deserted bool   // the app has ended, and is started again to mend
}

func layouts() []layout {
	private := fmt.Sprintf("/tmp/systemd-private-0123-shop.service-%d", os.Getpid())
	return []layout{
		{name: "folder without x", breaks: "chmod 0700 app", says: "{dir}/app: uid 60578 may not enter this folder (EACCES; mode 0700, owner 65534:65534)"},
		{name: "socket without w", breaks: "chmod 0755 app/web.sock", says: "{dir}/app/web.sock: uid 60578 may not write to this socket (EACCES; mode 0755"},
		{name: "group without the core", breaks: "chmod 0750 app", says: "{dir}/app: uid 60578 may not enter this folder (EACCES; mode 0750"},
		{
			name: "private tmp", breaks: "mkdir -p " + private + "/tmp && mv app/web.sock " + private + "/tmp/web%d.sock && chmod 0700 " + private,
			path: "/tmp/web%d.sock", says: "/tmp/web%d.sock: is in the private /tmp of shop.service (ENOENT)",
			mend: "mv " + private + "/tmp/web%d.sock {dir}/app/web.sock; rm -r " + private, instead: "{dir}/app/web.sock",
		},
		{name: "link into a closed folder", breaks: "ln -s app current && chmod 0700 app", path: "{dir}/current/web.sock", says: "{dir}/app: uid 60578 may not enter this folder"},
		{name: "left behind", deserted: true, says: "{dir}/app/web.sock: nobody listens on this socket: it is left from an app that ended (ECONNREFUSED", mend: "rm app/web.sock"},
		{name: "wrong owner", breaks: "chown 61234:61234 app/web.sock && chmod 0600 app/web.sock", says: "{dir}/app/web.sock: uid 60578 may not write to this socket (EACCES; mode 0600, owner 61234:61234)"},
		{name: "missing", path: "{dir}/app/wep.sock", says: "{dir}/app/wep.sock: there is no such socket (ENOENT)", mend: "true", instead: "{dir}/app/web.sock"},
	}
}

// TestLayouts breaks the way to an app in eight ways: check names each, and what
// it prints makes the way free.
func TestLayouts(t *testing.T) {
	needRoot(t)
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			s := newScene(t)
			expand := func(text string) string {
				return strings.NewReplacer("{dir}", s.dir, "%d", fmt.Sprint(os.Getpid())).Replace(text)
			}
			listener := s.listen()
			if l.deserted {
				listener.SetUnlinkOnClose(false)
				listener.Close()
			}
			s.run(expand(l.breaks))
			s.pointTo(expand(l.path))
			out, code := s.shell("sallyport check")
			if code != 3 || !strings.Contains(out, "sallyport.toml:4: site.app: "+expand(l.says)) {
				t.Errorf("exit code %d, printed\n%s\nwant %s", code, out, expand(l.says))
			}
			_, hint, _ := strings.Cut(out, "\nhint: ")
			hint, _, _ = strings.Cut(hint, "\n")
			t.Logf("hint: %s", hint)
			if l.mend == "" {
				s.run(hint)
			}
			s.run(expand(l.mend))
			if l.deserted {
				s.listenAgain()
			}
			if l.instead != "" {
				s.pointTo(expand(l.instead))
			}
			if out, code := s.shell("sallyport check"); code != 0 {
				t.Errorf("mended, and still %d:\n%s", code, out)
			}
		})
	}
}

// listen is an app that does nothing but listen.
func (s *scene) listen() *net.UnixListener {
	s.t.Helper()
	s.must(os.Mkdir(s.path("app"), 0o755))
	s.must(os.Chown(s.path("app"), nobody, nobody))
	return s.listenAgain()
}

func (s *scene) listenAgain() *net.UnixListener {
	s.t.Helper()
	listener, err := net.Listen("unix", s.path("app/web.sock"))
	s.must(err)
	s.t.Cleanup(func() { listener.Close() })
	s.must(os.Chmod(s.path("app/web.sock"), 0o666))
	return listener.(*net.UnixListener)
}

// pointTo writes a configuration whose app is at path.
func (s *scene) pointTo(path string) {
	if path == "" {
		path = s.path("app/web.sock")
	}
	s.write("sallyport.toml", "listen = { http = [\"127.0.0.1:0\"], https = [] }\n[[site]]\nhost = \"shop.test\"\napp = \"unix:"+path+"\"\n")
}

// run runs a shell line that must succeed; none is fine too.
func (s *scene) run(line string) {
	s.t.Helper()
	if out, code := s.shell(line); code != 0 {
		s.t.Fatalf("%s: exit code %d\n%s", line, code, out)
	}
}
