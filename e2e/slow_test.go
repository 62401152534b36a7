package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slowLimits are such that a slow client is over after a few seconds.
const slowLimits = `[limits]
head_time = "2s"
body_idle = "2s"
body_rate = 10000
write_idle = "2s"
`

// slowPatience is how long a slow connection may be there: twice the longest time that
// the limits leave it, with a margin for a machine that has other things to do.
const slowPatience = 20 * time.Second

// TestSlowClients lets slowhttptest hold as many slow connections as it can, which it
// would go on with for a long time. All of them have to be ended by us, each refusal is a
// line of the log, and another client gets every answer meanwhile.
func TestSlowClients(t *testing.T) {
	needProgram(t, "/usr/bin/slowhttptest")
	for name, c := range map[string]struct {
		args  []string // -i and -n: seconds between two pieces
		path  string
		cause string
	}{
		"headers": {[]string{"-H", "-i", "1"}, "/slow", "head not complete within limits.head_time"},
		"body":    {[]string{"-B", "-i", "1", "-s", "8192", "-x", "10"}, "/slow", "body slower than limits.body_rate"},
		"read":    {[]string{"-X", "-n", "1", "-z", "5", "-w", "1", "-y", "512"}, "/large", "client gone"},
	} {
		t.Run(name, func(t *testing.T) {
			const slow = 500
			s := newScene(t)
			s.startBareApp(false)
			s.write("sallyport.toml", strings.Replace(bare, `host = "shop.test"`, `host = "*"`, 1)+slowLimits)
			h := s.start()
			s.slowhttptest(append(c.args, "-c", strconv.Itoa(slow), "-u", "http://"+h.http+c.path))
			causes := func() int {
				return len(h.find("request refused", "cause="+c.cause)) + len(h.find("request answered", "cause="+c.cause))
			}
			served, most := 0, 0
			over := until(slowPatience, func() bool {
				if err := busy(h.http, nil, 4, 25); err != nil {
					t.Fatalf("a client that is not slow: %v", err)
				}
				served += 100
				now := established(t, h.http)
				most = max(most, now)
				return most > slow/2 && causes() >= slow && now <= connectionsOfProbe
			})
			t.Logf("%d slow connections at once; %d requests of another client served meanwhile", most, served)
			if !over {
				t.Fatalf("after %v: %d connections there, %d at most; %d lines with the cause %s",
					slowPatience, established(t, h.http), most, causes(), c.cause)
			}
			if n := causes(); n > slow+connectionsOfProbe {
				t.Errorf("%d lines with the cause %s for %d slow connections", n, c.cause, slow)
			}
		})
	}
}

// connectionsOfProbe bounds those by which slowhttptest itself asks, once in a second,
// whether it has succeeded.
const connectionsOfProbe = 20

// slowhttptest runs it until the end of the test.
func (s *scene) slowhttptest(args []string) {
	s.t.Helper()
	cmd := exec.Command("/usr/bin/slowhttptest", append(args, "-r", "1000", "-l", "300")...)
	cmd.Dir = s.dir
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended, when nothing was left of its connections
		_ = cmd.Wait()
	})
}

// established counts the connections of a listener that both sides keep, by the kernel's
// table (proc_pid_net(5), tcp): its own ports in the second column, and 01 in the fourth.
func established(t *testing.T, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(table)) {
		words := strings.Fields(line)
		if len(words) > 3 && strings.HasSuffix(words[1], fmt.Sprintf(":%04X", number)) && words[3] == "01" {
			count++
		}
	}
	return count
}
