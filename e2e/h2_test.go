package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// TestH2Cases plays cases/h2: nothing of what is hostile in HTTP/2 becomes a request of
// HTTP/1.1, and the next request is answered; as the corpus of HTTP/1.1 is played.
func TestH2Cases(t *testing.T) {
	cases := readH2Cases(t)
	if len(cases) < 240 {
		t.Errorf("only %d cases", len(cases))
	}
	for name, keep := range map[string]int{"closed": 0, "kept": 4, "buffered": 4} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			all := players(t, s.dir, false, patience)
			s.write("sallyport.toml", strings.Replace(corpusSites(all, keep, name == "buffered"), "listen = {", "listen = { h2c = true,", 1))
			h := s.start()
			for _, p := range all {
				p.address = h.http
			}
			for _, v := range playH2All(all, cases) {
				if v.wrong != "" {
					t.Errorf("%s: %s", v, v.wrong)
				}
			}
		})
	}
}

// TestH2CasesOfPeers plays them on other proxies and prints what they pass. It fails for
// nothing they do.
func TestH2CasesOfPeers(t *testing.T) {
	names := strings.Fields(os.Getenv(peersEnv))
	if len(names) == 0 {
		t.Skipf("%s names no proxies", peersEnv)
	}
	cases := readH2Cases(t)
	rows := map[string]map[string]*h2Score{}
	for _, peer := range h2Peers() {
		if slices.Contains(names, peer.name) {
			t.Run(peer.name, func(t *testing.T) { rows[peer.name] = scoreH2(t, peer, cases) })
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "group\t%s\n", strings.Join(names, "\t"))
	groups := map[string]bool{}
	for _, c := range cases {
		groups[c.group] = true
	}
	for _, group := range append(slices.Sorted(maps.Keys(groups)), "all") {
		fmt.Fprintf(w, "%s", group)
		for _, name := range names {
			fmt.Fprintf(w, "\t%v", rows[name][group])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("passed of how many, let through, malformed:\n%s", table.String())
}

// An h2Score is how a proxy does in a group.
type h2Score struct{ passed, count, through, malformed int }

func (s *h2Score) String() string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d %d %d", s.passed, s.count, s.through, s.malformed)
}

func scoreH2(t *testing.T, peer corpusPeer, cases []*h2Case) map[string]*h2Score {
	s := newScene(t)
	all := players(t, s.dir, true, time.Second)
	address := s.startPeer(peer, all)
	for _, p := range all {
		p.address = address
	}
	scores := map[string]*h2Score{"all": {}}
	for _, v := range playH2All(all, cases) {
		if scores[v.group] == nil {
			scores[v.group] = new(h2Score)
		}
		for _, score := range []*h2Score{scores[v.group], scores["all"]} {
			score.count++
			if v.wrong == "" {
				score.passed++
			}
			if v.through {
				score.through++
			}
			if v.malformed {
				score.malformed++
			}
		}
		if v.wrong != "" {
			t.Logf("%s: %.200s", v, v.wrong)
		}
	}
	return scores
}

// h2Peers are the peers of the corpus, speaking HTTP/2 in clear text.
func h2Peers() []corpusPeer {
	peers := corpusPeers()
	changes := []*strings.Replacer{
		strings.NewReplacer("default_server;", "http2 default_server;", "; server_name", " http2; server_name"),
		strings.NewReplacer("\nuse_backend", " proto h2\nuse_backend"),
		strings.NewReplacer("admin off\n", "admin off\nservers {\nprotocols h1 h2c\n}\n"),
	}
	for i := range peers {
		config := peers[i].config
		peers[i].config = func(all []*player, dir, port string) string {
			text := config(all, dir, port)
			if i == 1 {
				return strings.Replace(text, ":"+port+"\n", ":"+port+" proto h2\n", 1)
			}
			return changes[i].Replace(text)
		}
	}
	return peers
}
