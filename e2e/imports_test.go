package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "sallyport/"

// arrows lists who may import what of ours: section 3 of the design, which
// gives the reasons. A new arrow is a change there and here.
func arrows() map[string][]string {
	const jail = "cmd/internal/jail"
	return map[string][]string{
		"cmd/sallyport":           {jail, "conf", "sockets", "upstream/board", "upstream/spool"},
		"cmd/sallyport-keeper":    {jail, "conf", "sockets", "tlsload/keeper"},
		"cmd/sallyport-registrar": {jail, "conf", "sockets", "tlsload/registrar"},
		"cmd/sallyport-core": {
			jail, "conf", "sockets", "sockets/loop", "tlsload", "upstream", "upstream/board", "upstream/spool",
			"proxy", "proxy/message", "proxy/h1", "proxy/h2", "proxy/h3",
		},
		jail:                {"conf", "sockets"},
		"proxy":             {"conf", "upstream", "upstream/spool", "proxy/message"},
		"upstream":          {"conf", "sockets", "sockets/loop", "proxy/h1", "proxy/h2", "proxy/message", "upstream/board"},
		"upstream/board":    {"conf"},
		"upstream/spool":    {"conf"}, // the root binary links it
		"proxy/h1":          {"conf", "sockets/loop", "proxy/message"},
		"proxy/h2":          {"conf", "sockets/loop", "proxy/message"},
		"proxy/h3":          {"conf", "sockets/loop", "proxy/message"},
		"tlsload":           {"conf", "sockets", "tlsload/keywire"},
		"tlsload/keeper":    {"conf", "sockets", "tlsload/keywire"},
		"tlsload/registrar": {"conf", "sockets", "tlsload/keywire"},
		"sockets":           {"conf"},
		"conf":              nil,
		"proxy/message":     nil,
		"tlsload/keywire":   nil,
		"sockets/loop":      nil,
		"e2e":               nil,
		"e2e/demo":          {"e2e"}, // for its throw-away CA
		"e2e/bench":         {"e2e", "e2e/bench/app", "e2e/bench/h3load"},
		"e2e/bench/app":     {},
		"e2e/bench/h3load":  {},
		"e2e/attack":        {}, // what it builds is below cmd
		"e2e/privileged":    {}, // likewise, of a copy
	}
}

// confined lists modules of others that only these packages of ours may import.
func confined() map[string][]string {
	return map[string][]string{
		"github.com/caddyserver/certmagic": {"tlsload/keeper", "tlsload/registrar"},
		"github.com/mholt/acmez":           {"tlsload/keeper", "tlsload/registrar"}, // certmagic's own, whose types it shows
		"go.uber.org/zap":                  {"tlsload/keeper", "tlsload/registrar"}, // likewise; never for a log of ours
		"github.com/quic-go/quic-go":       {"proxy/h3", "e2e/bench", "e2e/bench/h3load"},
		"github.com/quic-go/qpack":         {"proxy/h3"},
		"github.com/rs/zerolog": {
			"cmd/sallyport-core", "cmd/sallyport-keeper", "cmd/sallyport-registrar",
			"proxy", "upstream", "tlsload", "tlsload/keeper", "tlsload/registrar",
		},
		"github.com/pires/go-proxyproto": {"cmd/sallyport-core"},
		"golang.org/x/net":               {"proxy/h2"}, // of it http2/hpack
		"net/http":                       {"e2e/demo"}, // no request is forwarded by it
	}
}

// strays returns the imports that neither list allows, as "from -> to".
func strays(imports map[string][]string) []string {
	allowed, confined := arrows(), confined()
	var found []string
	for from, list := range imports {
		for _, to := range list {
			inner, ours := strings.CutPrefix(to, module)
			stray := ours && !slices.Contains(allowed[from], inner)
			for theirs, users := range confined {
				if to == theirs || strings.HasPrefix(to, theirs+"/") {
					stray = stray || !slices.Contains(users, from)
				}
			}
			if stray {
				found = append(found, from+" -> "+strings.TrimPrefix(to, module))
			}
		}
	}
	slices.Sort(found)
	return found
}

func TestArrows(t *testing.T) {
	imports := map[string][]string{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		words := strings.Fields(line)
		imports[strings.TrimPrefix(words[0], module)] = words[1:]
	}
	for from := range imports {
		if _, known := arrows()[from]; !known {
			t.Errorf("package %s is not in the design", from)
		}
	}
	for _, stray := range strays(imports) {
		t.Errorf("%s is an import that the design does not have", stray)
	}
}

// TestArrowsCanFail shows that the test above would find what it looks for.
func TestArrowsCanFail(t *testing.T) {
	fine := map[string][]string{"proxy": {"sallyport/upstream", "time", "github.com/rs/zerolog"}}
	if found := strays(fine); found != nil {
		t.Errorf("refused: %v", found)
	}
	for _, one := range []struct{ from, to string }{
		{"conf", "sallyport/sockets"},
		{"cmd/sallyport", "sallyport/tlsload"},
		{"sockets", "sallyport/cmd/internal/jail"},
		{"upstream", "net/http/httputil"},
		{"cmd/sallyport", "github.com/rs/zerolog"},
		{"cmd/sallyport-core", "github.com/caddyserver/certmagic"},
		{"a/new/package", "sallyport/conf"},
	} {
		imports := maps.Clone(fine)
		imports[one.from] = append(slices.Clone(imports[one.from]), one.to)
		want := []string{one.from + " -> " + strings.TrimPrefix(one.to, module)}
		if found := strays(imports); !slices.Equal(found, want) {
			t.Errorf("with %v: %v", want, found)
		}
	}
}

// rootBinary is the golden list of what the one binary links that ever runs as root.
const rootBinary = "testdata/root_binary.txt"

// TestRootBinary compares that list with the binary: initialisers run before main, with all
// the privilege there is. Whoever adds a package sees it in the list's next version.
func TestRootBinary(t *testing.T) {
	var ours, standard []string
	for _, line := range goList(t, "-deps", "-f", "{{.Standard}} {{.ImportPath}}", "./cmd/sallyport") {
		kind, path, _ := strings.Cut(line, " ")
		if path == "net/http" || path == "crypto/tls" {
			t.Errorf("the root binary links %s", path)
		}
		if kind == "true" {
			standard = append(standard, path)
		} else {
			ours = append(ours, path)
		}
	}
	slices.Sort(ours)
	slices.Sort(standard)
	got := "# What cmd/sallyport links beside the standard library: nothing else may run as root.\n" + strings.Join(ours, "\n") +
		"\n\n# What it links of the standard library.\n" + strings.Join(standard, "\n") + "\n"
	if *update {
		if err := os.WriteFile(rootBinary, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(rootBinary)
	if err != nil || got != string(want) {
		t.Errorf("the root binary links\n%s\nbut %s says, %v\n%s", got, rootBinary, err, want)
	}
}

// goList runs go list at the top of the module, for the builds that are
// released, and returns its lines.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	list := exec.Command("go", append([]string{"list"}, args...)...)
	list.Dir = ".."
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		if exit, is := err.(*exec.ExitError); is {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// TestCoreLinks: who answers the internet has nothing of a CA's protocol in it, nor of what speaks it.
// The same question finds all of it in keeper and registrar.
func TestCoreLinks(t *testing.T) {
	links := func(program string) (found []string) {
		for _, path := range goList(t, "-deps", "./cmd/"+program) {
			for _, module := range []string{"github.com/caddyserver/certmagic", "github.com/mholt/acmez", "go.uber.org/zap", "github.com/libdns/"} {
				if strings.HasPrefix(path, module) {
					found = append(found, path)
				}
			}
		}
		return found
	}
	for _, program := range []string{"sallyport", "sallyport-core"} {
		if found := links(program); len(found) > 0 {
			t.Errorf("%s links %v", program, found)
		}
	}
	for _, program := range []string{"sallyport-keeper", "sallyport-registrar"} {
		if len(links(program)) == 0 {
			t.Errorf("nothing is found in %s, which has it", program)
		}
	}
}
