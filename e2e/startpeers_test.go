package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// This file looks at the process that meets the internet, of this proxy and of others as
// their packages start them: the table of the README is what it prints.

// A peer is another proxy.
type peer struct {
	name, file, config string
	command            []string
	ambient            bool // by a user, who may bind low ports
}

func peers() []peer {
	return []peer{
		{name: "nginx", file: "nginx.conf", command: []string{"nginx", "-p", "{dir}", "-e", "stderr", "-c", "{dir}/nginx.conf"}, config: `daemon off;
user www-data;
pid {dir}/nginx.pid;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:443 ssl;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_certificate {dir}/shop.pem;
		ssl_certificate_key {dir}/shop.key;
		location / { return 200 "hello\n"; }
	}
}
`},
		{name: "haproxy", file: "haproxy.cfg", command: []string{"haproxy", "-W", "-db", "-f", "{dir}/haproxy.cfg"}, config: `global
	user haproxy
	group haproxy
	chroot /var/lib/haproxy
defaults
	mode http
	timeout client 30s
	timeout server 30s
	timeout connect 1s
frontend all
	bind 127.0.0.1:443 ssl crt {dir}/both.pem
	http-request return status 200
`},
		{name: "caddy", file: "Caddyfile", ambient: true, command: []string{"caddy", "run", "--config", "{dir}/Caddyfile"}, config: `{
	admin off
	auto_https off
}
https://shop.test {
	bind 127.0.0.1
	tls {dir}/shop.pem {dir}/shop.key
	respond "hello"
}
`},
	}
}

// TestPeers prints a line for each proxy, and holds ours to what the README says of it.
func TestPeers(t *testing.T) {
	needRoot(t)
	t.Run("sallyport", func(t *testing.T) {
		ownNetwork(t)
		s := newScene(t)
		key := p256(t)
		s.certificate("shop", key, "shop.test")
		s.write("sallyport.toml", strings.Replace(six, `https = ["127.0.0.1:0"]`, `https = ["127.0.0.1:443"]`, 1))
		h := s.start()
		text, err := os.ReadFile(s.path("shop.key"))
		s.must(err)
		if got := s.facing(h.cmd.Process.Pid, secrets(t, key, string(text))); got != "0 | 60578 | none | yes | 3 | no" {
			t.Errorf("the README says something else: %s", got)
		}
	})
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			program, err := exec.LookPath(p.command[0])
			if err != nil {
				t.Skipf("SKIPPED, NOT TESTED: no %s on this machine", p.name)
			}
			ownNetwork(t)
			p.look(t, program)
		})
	}
}

// look starts another proxy, and looks at it.
func (p peer) look(t *testing.T, program string) {
	s := newScene(t)
	if p.ambient {
		s = newSceneFor(t, nobody)
	}
	key := p256(t)
	s.certificate("shop", key, "shop.test")
	cert, err := os.ReadFile(s.path("shop.pem"))
	s.must(err)
	secret, err := os.ReadFile(s.path("shop.key"))
	s.must(err)
	s.write("both.pem", string(cert)+string(secret))
	s.write(p.file, p.config)
	binary, err := os.ReadFile(program)
	s.must(err)
	s.must(os.WriteFile(s.path(p.name), binary, 0o755)) // where every user may execute it
	args := make([]string, len(p.command))
	for i, word := range p.command {
		args[i] = strings.ReplaceAll(word, "{dir}", s.dir)
	}
	cmd := exec.Command(s.path(p.name), args[1:]...)
	said, err := os.Create(s.path("said"))
	s.must(err)
	defer said.Close()
	s.as(cmd)
	cmd.Stdout, cmd.Stderr = said, said
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	if p.ambient {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
	s.must(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // how it ends is no matter here
		if t.Failed() {
			text, _ := os.ReadFile(s.path("said")) // "" when there is none
			t.Logf("%s", text)
		}
	})
	s.knock("127.0.0.1:443").Close()
	s.facing(cmd.Process.Pid, secrets(t, key, string(secret)))
}

// facing looks at the process that has a client, after some, and prints how many processes of
// the service are root, who that one is, what capabilities it has, whether it can get more,
// how many filters of system calls it has, and whether the private key is in its memory.
func (s *scene) facing(main int, needles map[string][]byte) string {
	t := s.t
	t.Helper()
	s.handshakes("127.0.0.1:443", "shop.test", 20)
	client, err := tls.Dial("tcp", "127.0.0.1:443", s.client("shop.test"))
	s.must(err)
	defer client.Close()
	pid := owner(t, client.LocalAddr().(*net.TCPAddr).Port)
	facts, err := status(fmt.Sprintf("/proc/%d/status", pid))
	s.must(err)
	roots := 0
	for _, p := range family(main) {
		if theirs, err := status(fmt.Sprintf("/proc/%d/status", p)); err == nil && strings.HasPrefix(theirs["Uid"], "0 ") {
			roots++
		}
	}
	caps := strings.TrimLeft(facts["CapPrm"], "0")
	if caps == "" {
		caps = "none"
	}
	can := map[string]string{"0": "no", "1": "yes"}[facts["NoNewPrivs"]]
	key := "no"
	if len(scan(t, pid, needles)) > 0 {
		key = "yes"
	}
	uid, _, _ := strings.Cut(facts["Uid"], " ")
	line := strings.Join([]string{strconv.Itoa(roots), uid, caps, can, facts["Seccomp_filters"], key}, " | ")
	t.Logf("root processes | user | capabilities | no_new_privs | filters | key in memory\n%s", line)
	return line
}

// owner is the process that has the other end of a connection to port 443 from a port.
func owner(t *testing.T, port int) (pid int) {
	t.Helper()
	want := fmt.Sprintf(":01BB 0100007F:%04X", port)
	var inode string
	await(t, "the connection", func() bool {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			if strings.Contains(line, want) {
				inode = strings.Fields(line)[9]
			}
		}
		return inode != "" && inode != "0"
	})
	await(t, "its owner", func() bool {
		links, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == "socket:["+inode+"]" {
				pid, err = strconv.Atoi(strings.Split(link, "/")[2])
				return err == nil
			}
		}
		return false
	})
	return pid
}

// family is a process and all its descendants.
func family(pid int) []int {
	all := []int{pid}
	for _, child := range procfsChildren(pid) {
		all = append(all, family(child)...)
	}
	return all
}
