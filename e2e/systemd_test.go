package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// This file boots this machine's systemd in namespaces, and starts the units of
// conf/systemd in it: `make soak` does.

// systemdEnv switches it on.
const systemdEnv = "SALLYPORT_SYSTEMD"

// A machine is a systemd that runs.
type machine struct {
	*scene
	pid    int    // of systemd, as this machine sees it
	folder string // of the binaries, as it sees it
}

const (
	unitFolder    = "/etc/systemd/system"
	machineConfig = "/etc/sallyport/sallyport.toml"
)

// machineFile is the configuration of all units: what the world sees on 80 and 443.
const machineFile = `[[site]]
host = "shop.test"
tls = { cert = "shop.pem", key = "shop.key" }
redirect = false
app = "unix:/run/shop/app.sock"

[[site]]
host = "moved.test"
tls = { cert = "shop.pem", key = "shop.key" }
app = "unix:/run/shop/app.sock"
`

// shopUnit is an app, as a user of its own.
const shopUnit = `[Service]
Type=exec
DynamicUser=yes
RuntimeDirectory=shop
RuntimeDirectoryMode=0755
UMask=0
WorkingDirectory=/srv/shop
ExecStart=/usr/bin/node server.js /run/shop/app.sock
`

// newMachine boots one with the units and an app, and waits until it has booted.
func newMachine(t *testing.T) *machine {
	t.Helper()
	needRoot(t)
	if os.Getenv(systemdEnv) == "" {
		t.Skip("SKIPPED, NOT TESTED: a systemd is booted by `make soak`, with " + systemdEnv + "=1")
	}
	m := &machine{scene: newScene(t), folder: "/usr/local/bin"}
	serverOf(t, "node").installed(t)
	m.certificate("shop", p256(t), "shop.test", "moved.test")
	m.fill()
	boot := exec.Command("unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child",
		"--propagation", "private", "sh", "testdata/boot-systemd", m.dir)
	var said bytes.Buffer
	boot.Stdout, boot.Stderr = &said, &said
	boot.WaitDelay = time.Second
	m.must(boot.Start())
	t.Cleanup(func() {
		_ = boot.Process.Kill() // and what it has forked dies with it
		_ = boot.Wait()         // it was killed
		if t.Failed() {
			t.Logf("systemd: %s", said.String())
		}
	})
	await(t, "systemd", func() bool {
		children := procfsChildren(boot.Process.Pid)
		if len(children) == 1 {
			m.pid = children[0]
		}
		out, _ := m.inside("systemctl", "is-system-running") // "starting" is an exit code too
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	if out, err := m.inside("systemctl", "start", "shop"); err != nil {
		t.Fatalf("shop: %v: %s", err, out)
	}
	return m
}

// fill writes the files of the machine.
func (m *machine) fill() {
	m.t.Helper()
	for _, folder := range []string{"bin", "files" + unitFolder, "files/etc/sallyport", "files/etc/sysusers.d", "files/etc/tmpfiles.d", "files/srv"} {
		m.must(os.MkdirAll(m.path(folder), 0o755))
	}
	for _, name := range []string{"sallyport", "sallyport-core", "sallyport-keeper"} {
		program, err := os.ReadFile(bin(name))
		m.must(err)
		m.must(os.WriteFile(m.path("bin/"+name), program, 0o755))
	}
	units, err := os.ReadDir("../conf/systemd")
	m.must(err)
	for _, unit := range units {
		text, err := os.ReadFile("../conf/systemd/" + unit.Name())
		m.must(err)
		to := "files" + unitFolder + "/" + unit.Name()
		for ending, folder := range map[string]string{".sysusers": "files/etc/sysusers.d", ".tmpfiles": "files/etc/tmpfiles.d"} {
			if strings.HasSuffix(to, ending) {
				to = folder + "/sallyport.conf"
			}
		}
		m.must(os.WriteFile(m.path(to), text, 0o644))
	}
	m.must(os.CopyFS(m.path("files/srv/shop"), os.DirFS("apps")))
	m.write("files"+unitFolder+"/shop.service", shopUnit)
	m.write("files"+machineConfig, machineFile)
	for _, name := range []string{"shop.pem", "shop.key"} {
		text, err := os.ReadFile(m.path(name))
		m.must(err)
		m.write("files/etc/sallyport/"+name, string(text))
	}
}

// procfsChildren are the children of a process.
func procfsChildren(pid int) (children []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is right
	for _, list := range lists {
		text, _ := os.ReadFile(list) // "" when the thread has ended
		for _, field := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// inside runs a command in the machine.
func (m *machine) inside(command ...string) (string, error) {
	if m.pid == 0 {
		return "", errors.New("there is no machine yet")
	}
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(m.pid), "-a"}, command...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// does runs a command in the machine that must succeed.
func (m *machine) does(command ...string) string {
	m.t.Helper()
	out, err := m.inside(command...)
	if err != nil {
		m.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return out
}

// property is one of a unit, as systemd has it.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.does("systemctl", "show", "-P", name, unit))
}

// dial connects to an address in the network of the machine.
func (m *machine) dial(address string) func() (net.Conn, error) {
	return func() (conn net.Conn, err error) {
		theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
		if err != nil {
			return nil, err
		}
		defer theirs.Close()
		// The thread is not given back: it ends with its goroutine, in that network.
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			if err = unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err == nil {
				conn, err = net.DialTimeout("tcp", address, clientMax)
			}
		}()
		<-done
		return conn, err
	}
}

// answers shows that the machine answers on the ports that the world knows, or on others.
func (m *machine) answers(urls ...string) {
	m.t.Helper()
	if urls == nil {
		urls = []string{"http://shop.test/hello", "https://shop.test/hello"}
	}
	for _, url := range urls {
		out, err := exec.Command("nsenter", "-t", fmt.Sprint(m.pid), "-n", "curl", "-sS", "--fail-with-body", "--cacert", m.path("ca.pem"),
			"--max-time", "20", "--connect-to", "::127.0.0.1:", url).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "/hello") {
			m.t.Fatalf("%s: %v: %s", url, err, out)
		}
	}
}

// TestSystemd starts each unit, and has it do all that a service manager asks of it.
func TestSystemd(t *testing.T) {
	m := newMachine(t)
	for _, unit := range []string{"sallyport", "sallyport-ambient", "sallyport-activated"} {
		t.Run(unit, func(t *testing.T) {
			scene := *m.scene
			scene.t = t
			here := &machine{&scene, m.pid, m.folder}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(here.inside("journalctl", "-b", "-n", "30", "-o", "cat"))
				}
			})
			if unit != "sallyport" {
				here.uid = nobody // for powerless: who has no bounding set to clear
				here.credentials(unit)
				here.inherits = unit == "sallyport-ambient"
			}
			if unit == "sallyport-activated" {
				t.Cleanup(func() { here.does("systemctl", "stop", unit+".socket") })
				here.does("systemctl", "start", unit+".socket")
			}
			here.live(unit)
			here.wrong(unit)
		})
	}
}

// credentials has systemd hand the files of the certificate, which are root's, to a unit that
// is not, as its comment says.
func (m *machine) credentials(unit string) {
	m.t.Helper()
	text, err := os.ReadFile("../conf/systemd/" + unit + ".service")
	m.must(err)
	loads := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#LoadCredential=") || strings.HasPrefix(line, "#ExecReload=") {
			loads += strings.NewReplacer("/etc/ssl/private/", "/etc/sallyport/", "/etc/ssl/", "/etc/sallyport/").Replace(line[1:])
		}
	}
	m.must(os.WriteFile(m.path("drop-in"), []byte("[Service]\n"+loads), 0o644))
	folder := "/run/credentials/" + unit + ".service/"
	config := strings.NewReplacer(`"shop.pem"`, `"`+folder+`shop.pem"`, `"shop.key"`, `"`+folder+`shop.key"`).Replace(machineFile)
	m.must(os.WriteFile(m.path("config"), []byte(config), 0o644))
	m.install("drop-in", unitFolder+"/"+unit+".service.d/keys.conf")
	m.install("config", machineConfig)
	m.does("systemctl", "daemon-reload")
}

// install puts a file of the scene into the machine.
func (m *machine) install(name, to string) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(name))
	m.must(err)
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(m.pid), "-a", "install", "-D", "-m", "0644", "/dev/stdin", to)
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", to, err, out)
	}
}

// live is the life of a service.
func (m *machine) live(unit string) {
	t := m.t
	m.does("systemctl", "start", unit)
	m.answers()
	m.powerlessOf(m.own())
	c := m.crowd("127.0.0.1:80", "127.0.0.1:443")
	for range 5 {
		c.more(t, 20)
		m.does("systemctl", "reload", unit)
		if state := m.property(unit, "SubState"); state != "running" {
			t.Errorf("after the reload: %s", state)
		}
	}
	c.more(t, 20)
	c.stop()
	c.done.Wait()
	t.Logf("%d requests over 5 reloads, %d lost: %v", c.asked.Load(), len(c.lost), c.lost)
	if len(c.lost) > 0 {
		t.Errorf("lost: %v", c.lost)
	}
	m.kill("sallyport-core")
	m.answers()
	if out, err := m.inside("sallyport", "privs", "--assert", "-c", machineConfig); err != nil {
		t.Errorf("privs --assert: %v: %s", err, out)
	}
	m.powerlessOf(m.own())

	// What takes a start to mend is mended by one.
	m.kill("sallyport-keeper's warden")
	await(t, "a restart", func() bool { return m.property(unit, "NRestarts") == "1" && m.property(unit, "SubState") == "running" })
	m.answers()
	m.does("systemctl", "stop", unit)
	if result, code := m.property(unit, "Result"), m.property(unit, "ExecMainStatus"); result != "success" || code != "0" {
		t.Errorf("stopped: %s, exit code %s", result, code)
	}
	if left := m.own(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	out := m.does("journalctl", "-u", unit, "-o", "cat")
	out = regexp.MustCompile(`.*"no root for cores".*`).ReplaceAllString(out, "") // RestrictNamespaces=
	if strings.Contains(out, "not permitted") || !strings.Contains(out, `"message":"ready"`) {
		t.Errorf("journal: %s", out)
	}
}

// wrong shows what is left of a wrong configuration: one line, and no further start.
func (m *machine) wrong(unit string) {
	m.does("sed", "-i", "s/^redirect/redirekt/", machineConfig)
	defer m.does("sed", "-i", "s/^redirekt/redirect/", machineConfig)
	m.does("journalctl", "--rotate", "--vacuum-time=1s")
	began := strings.TrimSpace(m.does("date", "+%s"))
	if out, err := m.inside("systemctl", "start", unit); err == nil {
		m.t.Errorf("started: %s", out)
	}
	m.does("journalctl", "--sync")
	entries := strings.Split(strings.TrimSpace(m.does("journalctl", "-p", "err", "-t", "sallyport", "-S", "@"+began, "-o", "cat")), "\n")
	if len(entries) != 1 || !strings.HasPrefix(entries[0], machineConfig+":4: site.redirekt: ") || !strings.Contains(entries[0], "; hint: ") {
		m.t.Errorf("%d entries", len(entries))
	}
	m.t.Logf("journal: %q", entries)
	if again, state := m.property(unit, "NRestarts"), m.property(unit, "ActiveState"); again != "0" || state != "failed" {
		m.t.Errorf("%s, %s restarts", state, again)
	}
	m.does("systemctl", "reset-failed", unit)
}

// own are the processes of the machine's sallyport.
func (m *machine) own() (found []process) {
	inside := fmt.Sprintf("/proc/%d/ns/pid", m.pid)
	machine, err := os.Readlink(inside)
	m.must(err)
	for _, p := range running(m.folder) {
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p.pid)); err == nil && theirs == machine {
			found = append(found, p)
		}
	}
	return found
}

// kill ends a process of the machine's sallyport as nothing else does.
func (m *machine) kill(name string) {
	m.t.Helper()
	program, warden := strings.CutSuffix(name, "'s warden")
	for _, p := range m.own() {
		if p.name != program {
			continue
		}
		if warden {
			facts, err := status(fmt.Sprintf("/proc/%d/status", p.pid))
			m.must(err)
			_, err = fmt.Sscan(facts["PPid"], &p.pid)
			m.must(err)
		}
		m.must(syscall.Kill(p.pid, syscall.SIGKILL))
		return
	}
	m.t.Fatalf("no %s among %v", name, m.own())
}

// crowd puts regulars to work on both listeners of the machine.
func (m *machine) crowd(http, https string) *crowd {
	ctx, stop := context.WithTimeout(m.t.Context(), loadMax)
	c := &crowd{stop: stop}
	plain, secure := m.dial(http), m.dial(https)
	client := m.client("shop.test")
	overTLS := func() (net.Conn, error) {
		conn, err := secure()
		if err != nil {
			return nil, err
		}
		return tls.Client(conn, client), nil
	}
	for _, dial := range []func() (net.Conn, error){plain, overTLS, plain, overTLS} {
		c.done.Add(1)
		go c.askLoop(ctx, &regular{dial: dial})
	}
	return c
}
