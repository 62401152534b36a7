package attack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ids of the core and of somebody else, as the service takes them where there are no users.
const (
	coreUID   = 60578
	keeperUID = 60579
)

// A place is what there is around the attackers: their targets.
type place struct {
	dir      string
	core     int             // uid of the attackers
	starts   func(*exec.Cmd) // how an attacker is started; nil: by root
	Folder   string          // of one attempt
	App      string          // socket of an app, whose folder is in the root
	Mixed    string          // folder of an app that has a neighbour's docker.sock too
	System   string          // socket in /run
	root     *os.File
	Key      string
	Abstract string
	Port     int
	Brother  int
	Stranger int
	Starter  int
}

// newPlace makes what all attempts may have in common, where root starts the service.
func newPlace(t *testing.T) *place { return newPlaceOf(t, coreUID, keeperUID) }

// newPlaceOf is newPlace for other users.
func newPlaceOf(t *testing.T, core, keeper int) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), core: core, Starter: os.Getpid(), Abstract: fmt.Sprintf("sallyport-attack-%d", os.Getpid())}
	for folder := p.dir; folder != os.TempDir(); folder = filepath.Dir(folder) {
		must(t, os.Chmod(folder, 0o755))
	}
	p.Key = filepath.Join(p.dir, "key.pem")
	must(t, os.WriteFile(p.Key, []byte("secret"), 0o600))
	must(t, os.Chown(p.Key, keeper, keeper))
	abstract, err := net.Listen("unix", "@"+p.Abstract)
	must(t, err)
	t.Cleanup(func() { abstract.Close() })
	target, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { target.Close() })
	p.Port = target.Addr().(*net.TCPAddr).Port
	system := "/run"
	if os.Getuid() != 0 { // of a container, where that is root's
		system = p.dir
	}
	p.App, p.Mixed, p.System = p.dir+"/app/web.sock", p.dir+"/mixed", fmt.Sprintf("%s/sallyport-attack-%d.sock", system, os.Getpid())
	for _, folder := range []string{p.dir + "/app", p.Mixed} {
		must(t, os.Mkdir(folder, 0o755))
	}
	for _, path := range []string{p.App, p.Mixed + "/web.sock", p.Mixed + "/docker.sock", p.System} {
		listener, err := net.Listen("unix", path)
		must(t, err)
		must(t, os.Chmod(path, 0o777))
		t.Cleanup(func() { listener.Close() })
	}
	p.Brother, p.Stranger = victim(t, core), victim(t, keeper)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// victim starts a process of a user, which does nothing until the end of the test.
func victim(t *testing.T, uid int) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimVariable+"=1")
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return cmd.Process.Pid
}

// A stand is what one attempt has of its own: it may break it.
type stand struct {
	folder string
	held   []interface{ Close() error }
	gifts  []*os.File // in the order of giftNames
	report *os.File
}

// giftNames are those of the attacker, which the stage puts in their places.
const giftNames = "report,listener,client,app,board,dialer"

// stand makes it.
func (p *place) stand(number int) (s *stand, err error) {
	s = &stand{folder: filepath.Join(p.dir, fmt.Sprintf("stand%d", number))}
	for _, folder := range []string{s.folder, s.folder + "/empty"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return s, err
		}
		if err := os.Chown(folder, p.core, p.core); err != nil {
			return s, err
		}
	}
	if err := os.WriteFile(s.folder+"/own.txt", []byte("own"), 0o600); err != nil {
		return s, err
	}
	if err := os.Chown(s.folder+"/own.txt", p.core, p.core); err != nil {
		return s, err
	}
	for _, name := range []string{"app.sock", "docker.sock"} {
		listener, err := net.Listen("unix", s.folder+"/"+name)
		if err != nil {
			return s, err
		}
		s.held = append(s.held, listener)
		if err := os.Chmod(s.folder+"/"+name, 0o777); err != nil {
			return s, err
		}
	}
	return s, s.give()
}

// give makes the gifts.
func (s *stand) give() error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	s.report = reader
	plain := net.ListenConfig{}
	plain.SetMultipathTCP(false) // as boot makes them: what is not TCP is none of landlock's business
	listener, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	door, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	other, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	client, err := listener.Accept()
	if err != nil {
		return err
	}
	guest, err := client.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	board, err := unix.MemfdCreate("board", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	link, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dialer := os.NewFile(uintptr(link[0]), "dialer")
	s.held = append(s.held, dialer, os.NewFile(uintptr(link[1]), "its end"))
	app, memory := os.NewFile(uintptr(ends[0]), "app"), os.NewFile(uintptr(board), "board")
	s.gifts = []*os.File{writer, door, guest, app, memory, dialer}
	s.held = append(s.held, reader, listener, door, other, client, guest, app, os.NewFile(uintptr(ends[1]), "its end"), memory)
	if err := memory.Truncate(4096); err != nil {
		return err
	}
	_, err = unix.FcntlInt(uintptr(board), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	return err
}

// close ends it.
func (s *stand) close() {
	for _, h := range s.held {
		h.Close()
	}
	_ = os.RemoveAll(s.folder) // the test's folder goes in the end
}

// patience is how long an attacker may take that does not end by itself, as one that has a
// tracer, or is another program, may not.
const patience = 10 * time.Second

// try has one attacker make one attempt, and returns what came of it.
func (p *place) try(bin string, b build, name string, number int) (string, error) {
	s, err := p.stand(number)
	defer s.close()
	if err != nil {
		return "", err
	}
	mine := *p
	mine.Folder = s.folder
	text, err := json.Marshal(mine)
	if err != nil {
		return "", err
	}
	program, err := os.OpenFile(bin+"/sallyport-core", unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer program.Close()
	role, names := cmp.Or(b.role, "core"), giftNames+",stage-program"
	rooted := strings.HasPrefix(b.apps, "root")
	if rooted {
		names += ",stage-root"
	}
	cmd := exec.Command(bin+"/sallyport", "stage", names, fmt.Sprintf(`{"Role":%q,"Sandbox":"full","Who":{"UID":%d,"GID":%d}}`, role, p.core, p.core),
		"", "attack", role, name, giftNames, string(text), b.apps)
	cmd.ExtraFiles = append(s.gifts, program)
	if rooted {
		cmd.ExtraFiles = append(cmd.ExtraFiles, p.root)
	}
	said := new(strings.Builder)
	cmd.Stderr = said
	if p.starts != nil {
		p.starts(cmd)
	}
	start, over := cmd.Start, make(chan struct{})
	defer close(over)
	if rooted {
		start = func() error { return startAsWarden(cmd, over) }
	}
	if err := start(); err != nil {
		return "", err
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // it may be stopped, or wait for something
	s.gifts[0].Close()                                                  // of the report: its end is the attacker's
	report := make([]byte, 64)
	n, _ := s.report.Read(report) // nothing from one that has been killed
	err = cmd.Wait()
	if !late.Stop() && n <= 0 {
		return "LATE", nil
	}
	return outcome(string(bytes.TrimSpace(report[:n])), err, said.String())
}

// outcome is what a report and the end of an attacker say.
func outcome(report string, err error, said string) (string, error) {
	var ended *exec.ExitError
	if exit, is := err.(*exec.ExitError); is {
		ended = exit
	}
	switch {
	case report != "":
		return report, nil
	case err == nil:
		return open, nil // it is another program now, which had nothing to do
	case ended != nil && ended.Sys().(syscall.WaitStatus).Signaled():
		return unix.SignalName(ended.Sys().(syscall.WaitStatus).Signal()), nil
	}
	return "", fmt.Errorf("%w: %s", err, said)
}

// open is what came of an attempt that has succeeded.
const open = "OPEN"
