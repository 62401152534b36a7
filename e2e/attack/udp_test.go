package attack

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// udpRule is the packet filter that SECURITY.md offers.
func udpRule(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../SECURITY.md")
	must(t, err)
	_, rule, found := strings.Cut(string(text), "```nft\n")
	rule, _, ended := strings.Cut(rule, "```")
	if !found || !ended {
		t.Fatal("SECURITY.md has no rule")
	}
	return rule
}

// TestUDPRule shows what that filter does in a network of its own: who has inherited a
// socket of boot's can answer with it, and not begin.
func TestUDPRule(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: no nft on this machine; `make test` installs it as root")
	}
	rule := udpRule(t)
	done := make(chan []string)
	go onThread(func() { inNetwork(rule, done) })
	for _, wrong := range <-done {
		t.Error(wrong)
	}
}

// inNetwork ends with its thread, which has entered the network.
func inNetwork(rule string, done chan<- []string) {
	wrong := []string(nil)
	say := func(what string, err error) {
		if err != nil {
			wrong = append(wrong, what+": "+err.Error())
		}
	}
	say("network", unix.Unshare(unix.CLONE_NEWNET))
	say("lo", exec.Command("ip", "link", "set", "lo", "up").Run())
	load := exec.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(rule)
	out, err := load.CombinedOutput()
	say("nft: "+string(out), err)
	ours, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443})
	say("ours", err)
	theirs, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	say("theirs", err)
	if len(wrong) > 0 {
		done <- wrong
		return
	}
	defer ours.Close()
	defer theirs.Close()
	to := theirs.LocalAddr().(*net.UDPAddr)
	if _, err := ours.WriteToUDP([]byte("x"), to); !errors.Is(err, unix.EPERM) {
		wrong = append(wrong, "a datagram that nobody has asked for was sent")
	}
	_, err = theirs.WriteToUDP([]byte("asked"), ours.LocalAddr().(*net.UDPAddr))
	say("ask", err)
	text := make([]byte, 16)
	say("limit", errors.Join(ours.SetReadDeadline(time.Now().Add(limit)), theirs.SetReadDeadline(time.Now().Add(limit))))
	_, _, err = ours.ReadFromUDP(text)
	say("asked", err)
	_, err = ours.WriteToUDP([]byte("answer"), to)
	say("answer", err)
	n, _, err := theirs.ReadFromUDP(text)
	say("answered", err)
	if string(text[:n]) != "answer" {
		wrong = append(wrong, "answered: "+string(text[:n]))
	}
	done <- wrong
}
