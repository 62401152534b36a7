package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A home is a place for an app's socket, and how cores come to it.
type home struct {
	name      string
	socket    string // "{run}" is a folder in /run that is this test's, "{name}" its name
	linked    string // in the configuration, where that is another path
	make      string // shell, before the app starts; the folder of the socket is its own by then
	neighbour bool   // there is a docker.sock in the same folder
	way       string // "root" or "dialer"
	users     int    // who starts sallyport; 0: root
	bare      bool   // on a machine that lets nobody make namespaces
}

func homes() []home {
	return []home{
		{name: "a folder of its own", socket: "{run}/web.sock", way: "root"},
		{name: "a folder of its own, as a plain user", socket: "{run}/web.sock", way: "root", users: plainUser()},
		{name: "a neighbour in the folder", socket: "{run}/web.sock", neighbour: true, way: "dialer"},
		{name: "run itself", socket: "/run/{name}.sock", neighbour: true, way: "dialer"},
		{name: "behind a link", socket: "{run}/releases/2/web.sock", linked: "{run}/current/web.sock", make: "ln -s releases/2 {run}/current", way: "root"},
		{name: "a socket that is a link", socket: "{run}/real/web.sock", linked: "{run}/web.sock", make: "ln -s real/web.sock {run}/web.sock", way: "dialer"},
		{name: "a home without x for others", socket: "{run}/deploy/shop/web.sock", make: "chmod 0700 {run}/deploy", way: "dialer"},
		{name: "a folder that anybody may write", socket: "{run}/web.sock", make: "chmod 1777 {run}", way: "dialer"},
		{name: "no namespaces", socket: "{run}/web.sock", way: "dialer", bare: true},
		{name: "no namespaces, run itself", socket: "/run/{name}.sock", neighbour: true, way: "dialer", bare: true},
	}
}

// TestHomes has a real app at each of these, through the whole jail.
func TestHomes(t *testing.T) {
	needRoot(t)
	for i, where := range homes() {
		t.Run(where.name, func(t *testing.T) {
			s := newSceneFor(t, where.users)
			name := fmt.Sprintf("sallyport-home-%d-%d", os.Getpid(), i)
			in := strings.NewReplacer("{run}", "/run/"+name, "{name}", name)
			socket, path := in.Replace(where.socket), in.Replace(where.linked)
			if path == "" {
				path = socket
			}
			folder := filepath.Dir(socket)
			if folder != "/run" {
				s.must(os.MkdirAll(folder, 0o755))
				s.must(os.Chown(folder, nobody, nobody))
				t.Cleanup(func() { os.RemoveAll("/run/" + name) })
			}
			neighbour := ""
			if where.neighbour {
				neighbour = strings.TrimSuffix(socket, ".sock") + "-docker.sock"
				listener, err := net.Listen("unix", neighbour)
				s.must(err)
				s.must(os.Chmod(neighbour, 0o777))
				t.Cleanup(func() { listener.Close() })
			}
			s.liveAt(socket, folder == "/run")
			s.run(in.Replace(where.make))
			s.pointTo(path)
			h := s.beginAt(where.bare)
			if body := s.answered("http://shop.test/hello"); !strings.Contains(body, `"path": "/hello"`) {
				t.Errorf("answered: %s", body)
			}
			if got := coreSees(t, path); got != (where.way == "root") {
				t.Errorf("in the core's root: %v, and the way is %s", got, where.way)
			}
			if neighbour != "" && coreSees(t, neighbour) {
				t.Errorf("%s is in the core's root", neighbour)
			}
			if dialing := dialers(); dialing != (where.way == "dialer") {
				t.Errorf("a dialer runs: %v, and the way is %s", dialing, where.way)
			}
			if where.users == 0 { // a plain user has no place for the control socket here
				out, code := s.privs()
				if code != 0 || where.way == "root" && !strings.Contains(out, "root empty, but for "+filepath.Dir(path)+" ") {
					t.Errorf("privs: %d: %s", code, out)
				}
			}
			if code := h.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// liveAt starts an app on a socket. Where its user may not make one, which is so in /run, the
// socket is moved there.
func (s *scene) liveAt(socket string, move bool) *exec.Cmd {
	s.t.Helper()
	const kind = "gunicorn-gthread"
	serverOf(s.t, kind).installed(s.t)
	if _, err := os.Stat(s.path("app")); err != nil {
		s.folder()
	}
	at := socket
	if move {
		at = s.path("app/app.sock")
	}
	app := s.startAppOn(kind, at)
	takes(s.t, at)
	if move {
		s.must(os.Rename(at, socket))
		s.t.Cleanup(func() { os.Remove(socket) })
	}
	return app
}

// beginAt is start, on a machine that lets nobody make namespaces if it is bare: in a user
// namespace in which there may be no more. It is root's of all ids that matter.
func (s *scene) beginAt(bare bool) *house {
	s.t.Helper()
	if !bare {
		return s.start()
	}
	// The fixed ids are refused where the dead of other tests, whose programs are not to be
	// seen from inside, have not been waited for.
	text, err := os.ReadFile(s.path("sallyport.toml"))
	s.must(err)
	s.write("sallyport.toml", "user = \"games\"\nkeeper_user = \"news\"\n"+string(text))
	cmd := exec.Command("/bin/sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec sallyport run -c sallyport.toml")
	s.confined = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{Size: 65536}}, GidMappings: []syscall.SysProcIDMap{{Size: 65536}},
		GidMappingsEnableSetgroups: true,
	}
	h := s.begin(cmd)
	s.confined = nil
	return h
}

// coreSees reports whether a path is there for the core, by its own root.
func coreSees(t *testing.T, path string) bool {
	t.Helper()
	root := fmt.Sprintf("/proc/%d/root", named(t, "sallyport-core").pid)
	own, err := os.Stat(root + "/")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := os.Stat("/"); err != nil || os.SameFile(own, all) {
		return false // it is not its own: then it may connect to nothing, as e2e/attack shows
	}
	if entries, err := os.ReadDir(root + "/"); err != nil || len(entries) != 1 {
		t.Errorf("the core's root has %v, %v", entries, err)
	}
	_, err = os.Lstat(root + path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// acting are the processes that are a part of sallyport itself, by its name.
func acting(part string) (found []process) {
	for _, p := range ours() {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)) // "" when it is gone
		if strings.HasPrefix(string(command), "sallyport\x00"+part+"\x00") {
			found = append(found, p)
		}
	}
	return found
}

// dialers reports whether a dialer runs.
func dialers() bool { return len(acting("dialer")) > 0 }

// TestRecreated has the folder of an app made anew, as systemd does with RuntimeDirectory= at
// each restart, and asks while it is away: the same core answers, from the new folder.
func TestRecreated(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	folder := fmt.Sprintf("/run/sallyport-again-%d", os.Getpid())
	socket := folder + "/web.sock"
	makeFolder := func() {
		s.must(os.Mkdir(folder, 0o755))
		s.must(os.Chown(folder, nobody, nobody))
	}
	makeFolder()
	t.Cleanup(func() { os.RemoveAll(folder) })
	app := s.liveAt(socket, false)
	s.pointTo(socket)
	s.start()
	s.answered("http://shop.test/hello")
	core := named(t, "sallyport-core").pid
	for range 3 {
		s.must(app.Process.Signal(syscall.SIGKILL))
		endApp(app)
		s.must(os.RemoveAll(folder))
		asked := make(chan string)
		go func() { asked <- s.answered("http://shop.test/hello") }()
		makeFolder()
		app = s.liveAt(socket, false)
		began := time.Now()
		if body := <-asked; !strings.Contains(body, `"path": "/hello"`) {
			t.Errorf("answered: %s", body)
		}
		t.Logf("answered %v after the app was there again", time.Since(began))
		if !coreSees(t, socket) {
			t.Errorf("%s is not in the core's root", socket)
		}
	}
	if now := named(t, "sallyport-core").pid; now != core {
		t.Errorf("core %d, and it was %d", now, core)
	}
}

// TestStranger: a folder that gets what cores are not to see leaves their root, and no
// connect fails for that: the dialer is there before.
func TestStranger(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.app("node")
	web := s.path("app/app.sock")
	s.write("sallyport.toml", strings.NewReplacer("workers = 2", "workers = 1", `["unix:{dir}/app/a.sock", "unix:{dir}/app/b.sock"]`, `"unix:{dir}/app/app.sock"`).Replace(twoMembers))
	h := s.start()
	if !coreSees(t, web) {
		t.Fatal("the folder is not in the root at the start")
	}
	ctx, stop := context.WithTimeout(t.Context(), loadMax)
	defer stop()
	c := newCustom()
	for number := range clients {
		c.done.Go(func() { c.askLoop(ctx, h.http, number) })
	}
	c.more(t, 100)
	s.must(os.Mkdir(s.path("app/more"), 0o755))
	h.wait(t, "app folder reached by the dialer", "folder="+s.path("app"))
	await(t, "the root to be without the folder", func() bool { return !coreSees(t, web) })
	c.more(t, 100)
	stop()
	c.done.Wait()
	for _, l := range append(h.find("member lost"), h.find("app failed")...) {
		t.Error(l.text)
	}
	if app := s.shopStatus(); app.Members[0].Ejections != 0 || app.Failed != 0 {
		t.Errorf("%+v", app)
	}
}

// TestRelease points a link to the next release, whose app takes over without a word to
// sallyport; and then a neighbour comes into its folder, which cores are not to see.
func TestRelease(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	base := fmt.Sprintf("/run/sallyport-release-%d", os.Getpid())
	t.Cleanup(func() { os.RemoveAll(base) })
	var apps [2]*exec.Cmd
	for i := range apps {
		folder := fmt.Sprintf("%s/%d", base, i)
		s.must(os.MkdirAll(folder, 0o755))
		s.must(os.Chown(folder, nobody, nobody))
		apps[i] = s.liveAt(folder+"/web.sock", false)
	}
	s.run("ln -s 0 " + base + "/current")
	s.pointTo(base + "/current/web.sock")
	s.start()
	s.answered("http://shop.test/hello")
	core := named(t, "sallyport-core").pid
	s.run("ln -sfn 1 " + base + "/current")
	s.must(apps[0].Process.Signal(syscall.SIGKILL))
	endApp(apps[0])
	s.answered("http://shop.test/hello")
	if !coreSees(t, base+"/current/web.sock") || dialers() {
		t.Error("the new release is not in the core's root, or there is a dialer")
	}
	listener, err := net.Listen("unix", base+"/1/docker.sock")
	s.must(err)
	defer listener.Close()
	await(t, "the folder to leave the root", func() bool { return !coreSees(t, base+"/current/docker.sock") && dialers() })
	s.answered("http://shop.test/hello")
	if now := named(t, "sallyport-core").pid; now != core {
		t.Errorf("core %d, and it was %d", now, core)
	}
}

// TestDialerDies kills the dialer again and again while a client asks: no answer is lost.
func TestDialerDies(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.app("gunicorn-sync") // a connection for each request
	s.must(os.Mkdir(s.path("app/more"), 0o755))
	s.pointTo(s.path("app/app.sock"))
	h := s.start()
	for i := range 5 {
		for _, p := range acting("dialer") {
			p.kill()
		}
		if body := s.answered("http://shop.test/hello"); !strings.Contains(body, `"path": "/hello"`) {
			t.Fatalf("answer %d: %s", i, body)
		}
		h.wait(t, "process died", "process=dialer", "signal=SIGKILL")
		await(t, "another dialer", func() bool { return dialers() && len(h.find("process ready", "process=dialer")) > i })
	}
}

// TestBareKeeper has a keeper where nobody may make namespaces: it goes without a root of
// its own, and the handshakes go on.
func TestBareKeeper(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.certificate("shop", p256(t), "shop.test")
	s.write("sallyport.toml", "control = \"control.sock\"\n"+six)
	s.app("gunicorn-gthread")
	h := s.beginAt(true)
	if body := s.answered("https://shop.test/hello"); !strings.Contains(body, `"path": "/hello"`) {
		t.Errorf("answered: %s", body)
	}
	if lacking := h.wait(t, "jail incomplete").facts["lacking"]; !strings.Contains(fmt.Sprint(lacking), "empty root") {
		t.Errorf("lacking: %v", lacking)
	}
	if out, code := s.privs(); code != 0 || strings.Contains(out, "root empty") {
		t.Errorf("privs: %d: %s", code, out)
	}
}

// TestMasonDies: without it the root could not follow the apps, and nobody is left who could
// build another. The service ends, and a supervisor starts it anew.
func TestMasonDies(t *testing.T) {
	needRoot(t)
	s := newScene(t)
	s.app("gunicorn-gthread")
	s.pointTo(s.path("app/app.sock"))
	h := s.start()
	s.answered("http://shop.test/hello")
	for _, p := range acting("mason") {
		p.kill()
	}
	if code := h.end(); code != 4 { // a part that cannot be replaced
		t.Errorf("exit code %d", code)
	}
	h.wait(t, "warden died", "process=mason", "signal=SIGKILL")
}
