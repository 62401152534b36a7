package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A scenario is one file of cases: its first line is a comment that says what
// is shown, every other line one step. Indented lines belong to the step above
// them. The steps:
//
//	with KIND...        run everything below once per kind of app, which answers on app.sock
//	over SCHEME...      run what follows start once per scheme, which is {scheme}
//	file NAME           the indented lines are its content; {dir} is the scene's folder
//	start               run sallyport on sallyport.toml until it is ready
//	curl, sallyport ... a shell line that must exit 0; a curl may use any host and no port
//	fails N LINE        a shell line that must exit with N
//	output TEXT         what it printed contains TEXT; a body is what curl printed
//	size N              what it printed has N bytes
//	status N            the status of the last answer
//	interim N           an answer that came before that one
//	field NAME [VALUE]  a field of the last answer; without a value: it is absent
//	json KEY [VALUE]    a member of the JSON that was printed, "fields.host" too; without a value: absent
//	send                the indented lines, each after a ">", go to the http listener with their CRLFs
//	log MESSAGE K=V...  a line that sallyport logs, now or soon
//	stop                TERM, and it ends with 0
//	ended N             it ends by itself, with N
//
// The file 10MiB is in every scene, {sha256} is its checksum.
type scenario struct {
	name  string
	kinds []string
	steps []step
}

// A step is one line of a scenario with its indented lines.
type step struct {
	number     int // of its line in the file
	verb, rest string
	block      []string
}

// An actor goes through a scenario in one scene.
type actor struct {
	*scene
	house   *house
	scheme  string
	printed string // by the last shell line, or answered to the last send
	head    string // of all answers to the last shell line or send
}

func TestCases(t *testing.T) {
	files, err := filepath.Glob("cases/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		sc, err := readScenario(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range sc.kinds {
			t.Run(filepath.Join(sc.name, kind), func(t *testing.T) { sc.play(t, kind) })
		}
	}
}

func readScenario(file string) (*scenario, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sc := &scenario{name: strings.TrimSuffix(filepath.Base(file), ".txt"), kinds: []string{""}}
	for i, line := range strings.Split(string(text), "\n") {
		inner, indented := strings.CutPrefix(line, "    ")
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case indented && len(sc.steps) > 0:
			last := &sc.steps[len(sc.steps)-1]
			last.block = append(last.block, inner)
		case line == "" || strings.HasPrefix(line, "#"):
		case verb == "with":
			sc.kinds = strings.Fields(rest)
		default:
			sc.steps = append(sc.steps, step{number: i + 1, verb: verb, rest: rest})
		}
	}
	return sc, nil
}

// play runs the scenario for one kind of app.
func (sc *scenario) play(t *testing.T, kind string) {
	a := &actor{scene: newScene(t)}
	a.certificate("shop", p256(t), "shop.test", "*.shop.test")
	a.big()
	if kind != "" {
		a.app(kind)
	}
	for i, s := range sc.steps {
		if s.verb != "over" {
			a.do(t, sc.name, s)
			continue
		}
		for _, scheme := range strings.Fields(s.rest) {
			t.Run(scheme, func(t *testing.T) {
				a.scheme = scheme
				for _, s := range sc.steps[i+1:] {
					a.do(t, sc.name, s)
				}
			})
		}
		return
	}
}

// do carries out one step. A step that is not met ends the test with its line.
func (a *actor) do(t *testing.T, name string, s step) {
	t.Helper()
	rest := strings.NewReplacer("{scheme}", a.scheme, "{dir}", a.dir).Replace(s.rest)
	var err error
	switch s.verb {
	case "file":
		a.write(rest, strings.Join(s.block, "\n")+"\n")
	case "start":
		a.house = a.start()
	case "curl", "sallyport":
		err = a.run(s.verb+" "+rest, 0)
	case "fails":
		code, commandLine, _ := strings.Cut(rest, " ")
		want, _ := strconv.Atoi(code) // a slip in the file is 0, and will not be met
		err = a.run(commandLine, want)
	case "send":
		err = a.send(s.block)
	case "log":
		err = a.logged(t, strings.Fields(rest))
	case "stop":
		err = differ(a.house.stop(), 0)
	case "ended":
		err = differ(strconv.Itoa(a.house.end()), rest)
	default:
		err = a.check(s.verb, rest)
	}
	if err != nil {
		t.Fatalf("cases/%s.txt:%d: %s %s: %v\n--- head\n%s--- printed\n%.2000s", name, s.number, s.verb, rest, err, a.head, a.printed)
	}
}

// run runs a shell line and keeps what it printed.
func (a *actor) run(commandLine string, want int) error {
	_ = os.Remove(a.path("head")) // absent after the first start
	out, code := a.shell(commandLine)
	head, err := os.ReadFile(a.path("head"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	a.printed, a.head = out, string(head)
	if code != want {
		return fmt.Errorf("exit code %d", code)
	}
	return nil
}

// send writes raw lines to the first http listener and reads until its end.
func (a *actor) send(lines []string) error {
	conn, err := net.Dial("tcp", a.house.http)
	if err != nil {
		return err
	}
	defer conn.Close()
	a.must(conn.SetDeadline(time.Now().Add(patience)))
	var text strings.Builder // in one piece, so that an early answer meets no later write
	for _, line := range lines {
		text.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, ">"), " ") + "\r\n")
	}
	if _, err := io.WriteString(conn, text.String()); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	a.printed = string(answer)
	a.head, _, _ = strings.Cut(a.printed, "\r\n\r\n")
	return err
}

// logged waits for a line of the log; the message is all that is no fact.
func (a *actor) logged(t *testing.T, words []string) error {
	t.Helper()
	count := 0
	for count < len(words) && !strings.Contains(words[count], "=") {
		count++
	}
	a.house.wait(t, strings.Join(words[:count], " "), words[count:]...)
	return nil
}
