package sockets

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseGifts(t *testing.T) {
	for _, c := range []struct {
		names, wrong string
	}{
		{"", ""},
		{"plan", ""},
		{"plan,ready,link,http0,https0", ""},
		{"a-b,C9", ""},
		{",", "is no name"},
		{"plan,", "is no name"},
		{"plan,ready,plan", "is named twice"},
		{"pl an", "is no name"},
		{"plan;ready", "is no name"},
		{"plän", "is no name"},
		{strings.Repeat("a,", giftsMax) + "a", "are more than"},
	} {
		gifts, err := parseGifts(c.names)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%.20q: %v, want %q", c.names, err, c.wrong)
			}
		case err != nil:
			t.Errorf("%q: %v", c.names, err)
		case gifts.Names() != c.names:
			t.Errorf("%q came back as %q", c.names, gifts.Names())
		}
	}
}

func TestGiftsFD(t *testing.T) {
	gifts, err := parseGifts("plan,ready")
	if err != nil {
		t.Fatal(err)
	}
	if fd, err := gifts.FD("ready"); fd != 4 || err != nil {
		t.Errorf("ready: %d, %v", fd, err)
	}
	if fd, err := gifts.FD("link"); fd != -1 || err == nil || err.Error() != `sockets: gift "link": not given` {
		t.Errorf("link: %d, %v", fd, err)
	}
}

// TestTakeGifts runs in a child, which is given two descriptors.
func TestTakeGifts(t *testing.T) {
	if os.Getenv("SOCKETS_TEST_CHILD") != "" {
		takeTwo(t)
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestTakeGifts$")
	cmd.Env = append(os.Environ(), "SOCKETS_TEST_CHILD=1")
	cmd.ExtraFiles = []*os.File{null, null}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func takeTwo(t *testing.T) {
	gifts, err := TakeGifts("plan,ready")
	if err != nil {
		t.Fatal(err)
	}
	for _, gift := range gifts {
		flags, err := unix.FcntlInt(uintptr(gift.FD), unix.F_GETFD, 0)
		if err != nil || flags != unix.FD_CLOEXEC {
			t.Errorf("%s: flags %d, %v", gift.Name, flags, err)
		}
	}
	names := gifts.Names()
	for fd := FirstGift + 2; isOpen(fd); fd++ { // what the test itself has opened
		names += ",own" + strconv.Itoa(fd)
	}
	if _, err := TakeGifts(names); err != nil {
		t.Error(err)
	}
	if _, err := TakeGifts(names + ",one-too-many"); err == nil || !strings.HasSuffix(err.Error(), "is not open") {
		t.Errorf("a gift too many: %v", err)
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func FuzzTakeGifts(f *testing.F) {
	for _, seed := range []string{"", "plan", "plan,ready,link,http0", "a,,b", "a,a", "A-9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, names string) {
		gifts, err := parseGifts(names)
		if err != nil {
			return
		}
		if gifts.Names() != names {
			t.Errorf("%q came back as %q", names, gifts.Names())
		}
		for i, gift := range gifts {
			if fd, err := gifts.FD(gift.Name); err != nil || fd != FirstGift+i {
				t.Errorf("%q: %d, %v", gift.Name, fd, err)
			}
		}
	})
}

// TestDecode shows that what is read is JSON, and memory that nobody can change.
func TestDecode(t *testing.T) {
	memory := func(content string, seal bool) int {
		fd, err := Sealable("test")
		if err == nil && seal {
			err = SealIn(fd, []byte(content))
		} else if err == nil {
			_, err = unix.Write(fd, []byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	gifts := Gifts{{"number", memory("7", true)}, {"word", memory("seven", true)}, {"open", memory("7", false)}}
	for name, want := range map[string]string{
		"number": "", "word": `gift "word": invalid character`, "open": `gift "open": sockets: read sealed`, "other": "not given",
	} {
		var number int
		err := gifts.Decode(name, &number)
		switch {
		case want == "" && (err != nil || number != 7):
			t.Errorf("%s: %d, %v", name, number, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestTellReady shows that a warden reads one byte, and then the end.
func TestTellReady(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	read := os.NewFile(uintptr(pipe[0]), "ready")
	defer read.Close()
	if err := (Gifts{{"ready", pipe[1]}}).TellReady(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(read); len(text) != 1 || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := (Gifts{}).TellReady(); err == nil {
		t.Error("without the gift")
	}
}
