package e2e

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// peersEnv names the proxies that TestCorpusOfPeers plays the corpus on: some of
// "nginx haproxy caddy", which have to be in the PATH.
const peersEnv = "CORPUS_PEERS"

// A corpusPeer is another proxy: how it is started, and its configuration for a port
// and the folder of the apps' sockets.
type corpusPeer struct {
	name    string
	command []string // {dir}
	config  func(all []*player, dir, port string) string
}

func corpusPeers() []corpusPeer {
	return []corpusPeer{
		{"nginx", []string{"nginx", "-p", "{dir}", "-c", "{dir}/peer.conf", "-e", "{dir}/error.log"}, nginxSites},
		{"haproxy", []string{"haproxy", "-db", "-f", "{dir}/peer.conf"}, haproxySites},
		{"caddy", []string{"caddy", "run", "--adapter", "caddyfile", "--config", "{dir}/peer.conf"}, caddySites},
	}
}

func nginxSites(all []*player, dir, port string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "daemon off;\npid %s/pid;\nevents {}\nhttp {\naccess_log off;\nclient_max_body_size 1g;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&text, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	fmt.Fprintf(&text, "server { listen 127.0.0.1:%s default_server; return 444; }\n", port)
	for _, p := range all {
		fmt.Fprintf(&text, "server { listen 127.0.0.1:%s; server_name %s.test; location / { proxy_pass http://unix:%s/%s.sock:; "+
			"proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host; } }\n", port, p.site, dir, p.site)
	}
	return text.String() + "}\n"
}

func haproxySites(all []*player, dir, port string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "defaults\nmode http\ntimeout connect 1s\ntimeout client 20s\ntimeout server 20s\nfrontend f\nbind 127.0.0.1:%s\n", port)
	for _, p := range all {
		fmt.Fprintf(&text, "use_backend %s if { req.hdr(host),field(1,:),lower %s.test }\n", p.site, p.site)
	}
	for _, p := range all {
		fmt.Fprintf(&text, "backend %s\nserver a unix@%s/%s.sock\n", p.site, dir, p.site)
	}
	return text.String()
}

func caddySites(all []*player, dir, port string) string {
	var text strings.Builder
	text.WriteString("{\nadmin off\nauto_https off\npersist_config off\nlog default {\nlevel PANIC\n}\n}\n")
	fmt.Fprintf(&text, "http://:%s {\nrespond 421\n}\n", port)
	for _, p := range all {
		fmt.Fprintf(&text, "http://%s.test:%s {\nreverse_proxy unix/%s/%s.sock\n}\n", p.site, port, dir, p.site)
	}
	return text.String()
}

// TestCorpusOfPeers plays the corpus on other proxies and prints, group by group, what
// they pass, so that the cases are known to be able to fail. It fails for nothing they do.
func TestCorpusOfPeers(t *testing.T) {
	names := strings.Fields(os.Getenv(peersEnv))
	if len(names) == 0 {
		t.Skipf("%s names no proxies", peersEnv)
	}
	groups := readCorpus(t)
	scores := map[string]map[string]string{}
	for _, peer := range corpusPeers() {
		if slices.Contains(names, peer.name) {
			t.Run(peer.name, func(t *testing.T) { scores[peer.name] = peer.play(t, groups) })
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "group\tcases\t%s\n", strings.Join(names, "\t"))
	rows := append(slices.Sorted(maps.Keys(groups)), "all", "let through", "malformed")
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%d", row, len(groups[row]))
		for _, name := range names {
			fmt.Fprintf(w, "\t%s", scores[name][row])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("passed:\n%s", table.String())
}

// play starts the peer, plays all groups and returns what it passed in each.
func (peer corpusPeer) play(t *testing.T, groups map[string][]*corpusCase) map[string]string {
	s := newScene(t)
	all := players(t, s.dir, true, time.Second)
	address := s.startPeer(peer, all)
	score := map[string]string{}
	passed, count, through, malformed := 0, 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		for _, p := range all {
			p.address = address
		}
		good := 0
		for _, v := range playAll(all, groups[name]) {
			if v.wrong == "" {
				good++
				continue
			}
			t.Logf("%s: %s", v, v.wrong)
			if v.through {
				through++
			}
			if v.malformed {
				malformed++
			}
		}
		score[name] = fmt.Sprint(good)
		passed, count = passed+good, count+len(groups[name])
	}
	score["all"] = fmt.Sprintf("%d of %d", passed, count)
	score["let through"], score["malformed"] = fmt.Sprint(through), fmt.Sprint(malformed)
	return score
}

// startPeer starts a peer in front of the apps of all, and returns its address.
func (s *scene) startPeer(peer corpusPeer, all []*player) string {
	t := s.t
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	address := free.Addr().String()
	free.Close() // others cannot be told to choose
	_, port, _ := net.SplitHostPort(address)
	s.must(os.WriteFile(s.path("peer.conf"), []byte(peer.config(all, s.dir, port)), 0o644))
	argv := slices.Clone(peer.command)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{dir}", s.dir)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	output, err := os.Create(s.path("output"))
	s.must(err)
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	s.must(cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // it was told to end: its exit code says nothing
	if !until(patience, func() bool { return !refused(address) }) {
		said, _ := os.ReadFile(s.path("output"))
		t.Fatalf("%s takes no connections: %s", peer.name, said)
	}
	return address
}
