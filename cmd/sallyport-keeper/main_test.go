package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keywire"
)

// giftsKey is the variable by which a test starts this program as a keeper. It does
// so without the jail: its Seal refuses the user that tests may be run by.
const giftsKey = "SALLYPORT_KEEPER_TEST_GIFTS"

func TestMain(m *testing.M) {
	if names := os.Getenv(giftsKey); names != "" {
		ignoreStops()
		log, flush := openLog(os.Stderr)
		err := run(names, log)
		flush()
		if err != nil {
			os.Exit(exitMistake)
		}
		return
	}
	os.Exit(m.Run())
}

// A life is a keeper with one link, one certificate of a file and an internal CA.
type life struct {
	cmd  *exec.Cmd
	link int // the core's end
}

func begin(t *testing.T) life {
	t.Helper()
	core, link, err := sockets.Link()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(core) })
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	plan, err := sockets.Seal("plan", planText(t))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t)
	gifts := []struct {
		name string
		file *os.File
	}{
		{"plan", os.NewFile(uintptr(plan), "plan")},
		{"ready", tell},
		{"link0", os.NewFile(uintptr(link), "link0")},
		{"cert0", given(t, cert)},
		{"key0", given(t, key)},
		{"secret", given(t, nil)},
		{"root", given(t, nil)},
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Stderr = t.Output()
	var names []string
	for _, gift := range gifts {
		names = append(names, gift.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, gift.file)
	}
	cmd.Env = append(os.Environ(), giftsKey+"="+strings.Join(names, ","))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, gift := range gifts {
		gift.file.Close()
	}
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("not ready: %v, %v", err, cmd.Wait())
	}
	return life{cmd, core}
}

func planText(t *testing.T) []byte {
	t.Helper()
	text, err := json.Marshal(conf.Keeper{
		Certificates: []conf.Certificate{{Cert: "shop.pem", Key: "shop.key"}, {Internal: true, Hosts: []string{"localhost"}}},
		Authority:    &conf.Authority{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// fileName is the name of each file that a keeper is given here.
const fileName = "of-the-operator"

func given(t *testing.T, text []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), fileName)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// answers says Hello, and waits for the ticket keys.
func (l life) answers(t *testing.T) {
	t.Helper()
	if err := keywire.Send(l.link, keywire.Hello{Epoch: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, keywire.ReplyBytesMax)
	for {
		polled := []unix.PollFd{{Fd: int32(l.link), Events: unix.POLLIN}}
		if n, err := unix.Poll(polled, 10_000); n == 0 && err == nil {
			t.Fatal("no answer")
		}
		n, err := keywire.Receive(l.link, packet)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		if op, _, _ := keywire.Head(packet[:n]); op == keywire.OpTickets {
			return
		}
	}
}

// ends waits for a good end.
func (l life) ends(t *testing.T) {
	t.Helper()
	if err := l.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Signals that everybody gets do not end a keeper; its warden does.
func TestSignals(t *testing.T) {
	l := begin(t)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM} {
		if err := l.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		l.answers(t)
	}
	if err := l.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	l.ends(t)
}

func TestEndsWithItsLinks(t *testing.T) {
	l := begin(t)
	if err := unix.Shutdown(l.link, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	l.ends(t)
}

// A keeper that serves holds none of the files that it was given.
func TestWhatStaysOpen(t *testing.T) {
	l := begin(t)
	l.answers(t)
	folder := fmt.Sprintf("/proc/%d/fd", l.cmd.Process.Pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Error(err)
		}
		if filepath.Base(target) == fileName || strings.HasPrefix(target, "/memfd:") {
			t.Errorf("%s is open: %s", entry.Name(), target)
		}
	}
	unix.Close(l.link)
	l.ends(t)
}

// A reader that stalls loses lines, and is told how many.
func TestDroppedLinesAreCounted(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	log, flush := openLog(writer)
	const lines = 3000 // of 1 KiB, more than a pipe and the log hold
	for range lines {
		log.Info().Str("filling", strings.Repeat("x", 1000)).Msg("line")
	}
	go flush()
	got, dropped := 0, 0
	for text := bufio.NewScanner(reader); text.Scan(); {
		var line struct {
			Message, Process string
			Count            int
		}
		if err := json.Unmarshal(text.Bytes(), &line); err != nil || line.Process != "keeper" {
			t.Fatalf("%s: %v", text.Bytes(), err)
		}
		if line.Message == "log lines dropped" {
			dropped += line.Count
		} else {
			got++
		}
	}
	if dropped == 0 || got+dropped != lines {
		t.Errorf("got %d of %d lines, and %d are said to be dropped", got, lines, dropped)
	}
}
