package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// This file is one suite, smoke, over every way of starting sallyport without a service
// manager or a container; for those see systemd_test.go and image_test.go.

// A mode is a way of starting sallyport.
type mode struct {
	name  string
	user  bool     // its processes are those of a plain user; otherwise of the fixed ids
	own   bool     // in a network of its own, that root makes
	needs []string // programs, of which prepare knows the packages
	ports [2]int   // of the file; 0 is one that the kernel chooses
	fds   bool     // its file names descriptors instead

	prepare func(s *scene)                            // may be nil
	command func(s *scene, run []string) *exec.Cmd    // started by root
	says    map[string]string                         // messages of the log, and what must be in their lines
	silent  []string                                  // messages that must not be in the log
	knock   bool                                      // it is not started before the first client
	check   func(s *scene, h *house, serving process) // may be nil
}

// low are the ports that the world knows.
func low() [2]int { return [2]int{80, 443} }

// user is the way to become a plain user without anything.
func user() []string {
	return []string{"setpriv", "--reuid", fmt.Sprint(nobody), "--regid", fmt.Sprint(nobody), "--clear-groups", "--"}
}

// run prepares a command that begins with some words.
func run(words ...[]string) *exec.Cmd {
	var all []string
	for _, w := range words {
		all = append(all, w...)
	}
	return exec.Command(all[0], all[1:]...)
}

// activated is a service manager that passes two listeners, of its own network.
func activated(then ...string) func(*scene, []string) *exec.Cmd {
	return func(_ *scene, command []string) *exec.Cmd {
		return run([]string{
			"systemd-socket-activate", "-l", "127.0.0.1:80", "-l", "127.0.0.1:443", "--fdname", "web:websecure",
			"-E", "PATH", "-E", "HOME",
		}, then, command)
	}
}

func modes() []mode {
	const unwanted = "file capability used"
	return []mode{
		{
			name: "root", ports: low(), silent: []string{unwanted},
			command: func(_ *scene, command []string) *exec.Cmd { return run(command) },
		},
		{
			name: "ambient capability", user: true, ports: low(), needs: []string{"setpriv"}, silent: []string{unwanted},
			command: func(_ *scene, command []string) *exec.Cmd {
				ambient := []string{"setpriv", "--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"}
				return run(ambient, user()[1:], command)
			},
		},
		{
			name: "file capability", user: true, ports: low(), needs: []string{"setpriv", "setcap"},
			prepare: (*scene).fileCapability,
			command: func(_ *scene, command []string) *exec.Cmd { return run(user(), command) },
			says:    map[string]string{unwanted: "setcap -r"},
		},
		{
			name: "passed sockets", user: true, fds: true, knock: true, needs: []string{"setpriv", "systemd-socket-activate"},
			command: activated(user()...),
		},
		{
			name: "plain user", user: true, needs: []string{"setpriv"},
			command: func(_ *scene, command []string) *exec.Cmd { return run(user(), command) },
		},
		{
			name:    "user namespace with subordinate ids",
			command: func(_ *scene, command []string) *exec.Cmd { return inUserNamespace(run(command)) },
		},
		{
			name: "user namespace, as its user", user: true, needs: []string{"setpriv", "unshare"},
			command: func(_ *scene, command []string) *exec.Cmd {
				return run(user(), []string{"unshare", "--user", "--map-user=" + fmt.Sprint(nobody), "--map-group=" + fmt.Sprint(nobody)}, command)
			},
		},
		{
			name: "user namespace of one id", user: true, needs: []string{"setpriv", "unshare"},
			command: func(_ *scene, command []string) *exec.Cmd { return run(user(), []string{"unshare", "-Ur"}, command) },
			check:   (*scene).inside,
		},
		{
			name: "unprivileged ports", user: true, own: true, ports: low(), needs: []string{"setpriv"},
			prepare: func(s *scene) {
				s.must(os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("80"), 0))
			},
			command: func(_ *scene, command []string) *exec.Cmd { return run(user(), command) },
		},
		{
			name: "behind a redirect", user: true, own: true, ports: [2]int{8080, 8443}, needs: []string{"setpriv", "nft"},
			prepare: (*scene).redirect,
			command: func(_ *scene, command []string) *exec.Cmd { return run(user(), command) },
			check: func(_ *scene, h *house, _ process) {
				h.http, h.https = "127.0.0.1:80", "127.0.0.1:443"
			},
		},
		{
			name: "network namespace", own: true, ports: low(),
			command: func(_ *scene, command []string) *exec.Cmd { return run(command) },
		},
		{
			name: "passed sockets, no network", user: true, fds: true, knock: true,
			needs:   []string{"setpriv", "unshare", "systemd-socket-activate"},
			command: activated(append([]string{"unshare", "-n"}, user()...)...),
			check:   (*scene).alone,
		},
	}
}

// TestStartModes runs the suite in every way of starting.
func TestStartModes(t *testing.T) {
	needRoot(t)
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			for _, program := range m.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("SKIPPED, NOT TESTED: no %s on this machine; `make test` installs it as root", program)
				}
			}
			if m.own {
				ownNetwork(t)
			}
			m.run(t)
		})
	}
}

// run starts a house in the way of the mode, and lets the suite see it.
func (m mode) run(t *testing.T) {
	s := newScene(t)
	if m.user {
		s = newSceneFor(t, nobody)
	}
	s.app("node")
	s.certificate("shop", p256(t), "shop.test", "moved.test")
	s.write("sallyport.toml", m.file())
	if m.prepare != nil {
		m.prepare(s)
	}
	h := m.start(s)
	s.curlrc(h)
	for message, text := range m.says {
		if l := h.wait(t, message); !strings.Contains(l.text, text) {
			t.Errorf("%q is missing in %s", text, l.text)
		}
	}
	for _, message := range m.silent {
		if l := h.find(message); len(l) > 0 {
			t.Errorf("said: %s", l[0].text)
		}
	}
	if m.check != nil {
		m.check(s, h, named(t, "sallyport-core"))
		s.curlrc(h)
	}
	s.smoke(h)
}

// file is the configuration of the mode.
func (m mode) file() string {
	listen := fmt.Sprintf(`http = ["127.0.0.1:%d"], https = ["127.0.0.1:%d"]`, m.ports[0], m.ports[1])
	if m.fds {
		listen = `http = ["fd:web"], https = ["fd:websecure"]`
	}
	const site = `
[[site]]
host = %q
tls = { cert = "shop.pem", key = "shop.key" }
redirect = %t
app = "unix:{dir}/app/app.sock"
`
	return "control = \"control.sock\"\nlisten = { " + listen + ", advertise_port = 443 }\n" +
		fmt.Sprintf(site, "shop.test", false) + fmt.Sprintf(site, "moved.test", true)
}

// start lets root start the house, and whoever that becomes run it.
func (m mode) start(s *scene) *house {
	s.t.Helper()
	starter := *s // as the scene, but for who starts commands
	starter.uid = os.Getuid()
	cmd := m.command(s, []string{bin("sallyport"), "run", "-c", s.path("sallyport.toml")})
	if !m.knock {
		return starter.begin(cmd)
	}
	h := starter.launch(cmd)
	knocking := s.knock("127.0.0.1:443")
	ready := h.wait(s.t, "ready")
	knocking.Close()
	h.http, h.https = first(ready, "http"), first(ready, "https")
	return h
}

// knock is the first client of a listener that a service manager holds.
func (s *scene) knock(address string) (client net.Conn) {
	s.t.Helper()
	await(s.t, "a listener on "+address, func() (is bool) {
		var err error
		client, err = net.Dial("tcp", address)
		return err == nil
	})
	return client
}

// inside has the privileges asserted where the house is, and is uid 0.
func (s *scene) inside(h *house, _ process) {
	out, code := s.shell(fmt.Sprintf("nsenter -t %d -U --preserve-credentials sallyport privs --assert -c sallyport.toml", h.cmd.Process.Pid))
	if code != 0 || strings.Count(out, "uid 0 0 0 0") != processes || strings.Count(out, "dumpable no") != processes {
		s.t.Errorf("exit code %d\n%s", code, out)
	}
}

// processes are two wardens, a core, a keeper, and a mason or a dialer.
const processes = 5

// smoke is the suite: a house that passes it does what it is for.
func (s *scene) smoke(h *house) {
	s.t.Helper()
	s.serves()
	uids := s.powerless()
	if shared := uids["sallyport-core"] == uids["sallyport-keeper"]; shared != (s.uid != 0) {
		s.t.Errorf("users: %v", uids)
	}
	if out, code := s.shell("sallyport reload -c sallyport.toml"); code != 0 || !strings.HasPrefix(out, "reloaded: generation 2") {
		s.t.Errorf("reload: exit code %d, %s", code, out)
	}
	s.serves()
	await(s.t, "one generation", func() bool { return len(onlyCores(ours())) == 1 })
	core := named(s.t, "sallyport-core")
	core.kill()
	h.wait(s.t, "process died", "process=core", fmt.Sprintf("pid=%d", core.pid))
	s.serves()
	if out, code := s.privs(); code != 0 || strings.Count(out, " threads\n") != processes || strings.Count(out, "no_new_privs 1") != processes {
		s.t.Errorf("privs --assert: exit code %d, %s", code, out)
	}
	s.powerless()
	if code := h.stop(); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
}

// serves shows that the house answers, and sends clients to where they reach it.
func (s *scene) serves() {
	s.t.Helper()
	for _, scheme := range []string{"http", "https"} {
		if body := s.answered(scheme + "://shop.test/hello"); !strings.Contains(body, "/hello") {
			s.t.Errorf("%s: %s", scheme, body)
		}
	}
	const moved = "https://moved.test/hello"
	if out, err := s.curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://moved.test/hello").CombinedOutput(); string(out) != "308 "+moved {
		s.t.Errorf("redirected: %s, %v", out, err)
	}
}

// onlyCores are the cores among processes.
func onlyCores(all []process) (cores []process) {
	for _, p := range all {
		if p.name == "sallyport-core" {
			cores = append(cores, p)
		}
	}
	return cores
}

// ownNetwork gives the rest of this test, and all that it starts, a network that has
// nothing but a loopback. The thread of the test has it, and ends with it.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no network of its own: %v", err)
	}
	loopbackUp(t)
}

// loopbackUp brings the loopback up, netdevice(7).
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}

// inUserNamespace lets a command be root of a user namespace, with ids of others for
// those whom it starts, as the root of a rootless container is.
func inUserNamespace(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 300001, Size: 65535}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 300001, Size: 65535}},
	}
	return cmd
}

// fileCapability gives the binary what lets every user of this machine bind low ports.
func (s *scene) fileCapability() {
	s.t.Helper()
	if out, err := exec.Command("setcap", "cap_net_bind_service=+ep", bin("sallyport")).CombinedOutput(); err != nil {
		s.t.Skipf("SKIPPED, NOT TESTED: setcap: %v: %s", err, out)
	}
	s.t.Cleanup(func() {
		if out, err := exec.Command("setcap", "-r", bin("sallyport")).CombinedOutput(); err != nil {
			s.t.Errorf("setcap -r: %v: %s", err, out)
		}
	})
}

// redirect leads the ports that the world knows to those that a user may have.
func (s *scene) redirect() {
	s.t.Helper()
	const rules = `table inet sallyport {
	chain local {
		type nat hook output priority -100
		tcp dport 80 redirect to :8080
		tcp dport 443 redirect to :8443
	}
}
`
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		s.t.Skipf("SKIPPED, NOT TESTED: nft: %v: %s", err, out)
	}
}

// alone shows that no process of the house has a network.
func (s *scene) alone(_ *house, core process) {
	s.t.Helper()
	mine, err := os.Readlink("/proc/thread-self/ns/net")
	s.must(err)
	for _, p := range ours() {
		theirs, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(p.pid), "ns/net"))
		s.must(err)
		if theirs == mine {
			s.t.Errorf("%v has a network", p)
		}
	}
	devices, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", core.pid))
	s.must(err)
	if strings.Count(string(devices), "\n") != 3 { // two lines of titles, and lo
		s.t.Errorf("devices: %s", devices)
	}
}
