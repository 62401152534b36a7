package attack

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// build has the mason of a build make the root of its cores: with one app's folder, and
// without another's, which has a neighbour's socket too.
func (p *place) build(t *testing.T, bin string) {
	t.Helper()
	list, err := unix.MemfdCreate("sockets", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	text, err := json.Marshal([]struct{ Path string }{{p.App}, {p.Mixed + "/web.sock"}})
	must(t, err)
	_, err = unix.Write(list, text)
	must(t, err)
	_, err = unix.FcntlInt(uintptr(list), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	must(t, err)
	leash, news := pair(t), pair(t)
	program, err := os.OpenFile(bin+"/sallyport", unix.O_PATH, 0)
	must(t, err)
	mason := exec.Command(bin+"/sallyport", "stage", "sockets,leash,news,stage-program",
		fmt.Sprintf(`{"Role":"mason","Sandbox":"full","Who":{"UID":%d,"GID":%d}}`, coreUID, coreUID), "", "sallyport", "mason", "sockets,leash,news", "root")
	memory := os.NewFile(uintptr(list), "sockets")
	mason.ExtraFiles = []*os.File{memory, leash[1], news[1], program}
	mason.Stderr = os.Stderr
	must(t, mason.Start())
	for _, f := range []*os.File{memory, leash[1], news[1], program} {
		f.Close()
	}
	t.Cleanup(func() {
		leash[0].Close() // its end
		must(t, mason.Wait())
		news[0].Close()
	})
	message, control := make([]byte, 16), make([]byte, unix.CmsgSpace(4))
	n, length, _, _, err := unix.Recvmsg(int(news[0].Fd()), message, control, unix.MSG_CMSG_CLOEXEC)
	must(t, err)
	if string(message[:n]) != "root" {
		t.Fatalf("the mason says %q: this machine lets nobody make namespaces", message[:n])
	}
	messages, err := unix.ParseSocketControlMessage(control[:length])
	must(t, err)
	rights, err := unix.ParseUnixRights(&messages[0])
	must(t, err)
	p.root = os.NewFile(uintptr(rights[0]), "root")
	t.Cleanup(func() { p.root.Close() })
}

// pair is a link.
func pair(t *testing.T) [2]*os.File {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	return [2]*os.File{os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")}
}

// startAsWarden starts a stage as a warden does that has a root for it: as the user of the
// core, in a namespace. The thread takes the identity, and ends with it when over is closed:
// not before, for its end is that of the stage.
func startAsWarden(cmd *exec.Cmd, over <-chan struct{}) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, AmbientCaps: []uintptr{unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP},
	}
	done := make(chan error)
	go onThread(func() { startAs(cmd, done, over) })
	return <-done
}

// onThread runs f on a thread that ends with it. The first one of a process does not: it waits
// then, so that nobody else has it.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	ended := make(chan struct{})
	go onThread(func() { f(); close(ended) })
	<-ended
	runtime.UnlockOSThread()
}

func startAs(cmd *exec.Cmd, done chan<- error, over <-chan struct{}) {
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, coreUID, coreUID, coreUID},
		{unix.SYS_SETRESUID, coreUID, coreUID, coreUID},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			done <- errno
			return
		}
	}
	done <- cmd.Start()
	<-over
}
