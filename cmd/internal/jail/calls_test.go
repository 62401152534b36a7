package jail

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	somePID     = 4711
	someProgram = 42
	someLink    = 77
	someSlot    = 80
	fionbio     = 0x5421 // ioctl_nonblock: FIONBIO, ioctl(2)
)

var someone = subject{somePID, someProgram, someLink, []uint32{someSlot, someSlot + 1}}

// machines are those that there are columns for.
var machines = map[string]struct {
	audit  uint32
	number func(amd64, arm64 int) int
}{
	"amd64": {unix.AUDIT_ARCH_X86_64, func(amd64, _ int) int { return amd64 }},
	"arm64": {unix.AUDIT_ARCH_AARCH64, func(_, arm64 int) int { return arm64 }},
}

// numbersOf are those of x/sys, by the names of calls.
func numbersOf(t *testing.T, arch string) map[string]int {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), "unix", "zsysnum_linux_"+arch+".go"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 3 || !strings.HasPrefix(words[0], "SYS_") {
			continue
		}
		if number, err := strconv.Atoi(words[2]); err == nil {
			numbers[strings.ToLower(strings.TrimPrefix(words[0], "SYS_"))] = number
		}
	}
	if len(numbers) < 250 {
		t.Fatalf("%s: only %d calls were found", arch, len(numbers))
	}
	numbers["newfstatat"] = max(numbers["newfstatat"], numbers["fstatat"]) // its name on arm64
	return numbers
}

// TestNumbers holds the table to x/sys, for both machines.
func TestNumbers(t *testing.T) {
	for arch, m := range machines {
		numbers := numbersOf(t, arch)
		check := func(name string, amd64, arm64 int) {
			want, found := numbers[name]
			if !found {
				want = none
			}
			if got := m.number(amd64, arm64); got != want {
				t.Errorf("%s, %s: %d, want %d", arch, name, got, want)
			}
		}
		for _, c := range calls(someone) {
			check(c.name, c.amd64, c.arm64)
		}
		for _, c := range append(refused(), deadly()...) {
			check(c.name, c.amd64, c.arm64)
		}
		check("clone3", clone3, clone3)
	}
}

// TestTable holds the table to its rules: each call has a reason, none is twice in a
// filter, a core has at most 50, and what its second filter allows the first does too.
func TestTable(t *testing.T) {
	most := map[filterSet]int{wholeCore: 50, inKeeper: 50, inStart: 80, inWarden: 110, inMason: 90, inDialer: 50, inPlanner: 50}
	for set, limit := range most {
		seen := map[string]bool{}
		for _, c := range calls(someone) {
			if c.allowed&set == 0 {
				continue
			}
			if seen[c.name] {
				t.Errorf("%s: %s stands twice", set, c.name)
			}
			if seen[c.name] = true; c.reason == "" {
				t.Errorf("%s has no reason", c.name)
			}
			if set == inMason || set == inPlanner {
				continue // it is nobody's child but boot's, and has one filter
			}
			if c.allowed&inWarden == 0 && !allowedIn(inWarden, c.name) {
				t.Errorf("%s: %s is not in the filter of the warden, which its children inherit", set, c.name)
			}
			if set != inWarden && !allowedIn(inStart, c.name) {
				t.Errorf("%s: %s is not in the filter of the door", set, c.name)
			}
		}
		t.Logf("%s: %d calls", set, len(seen))
		if len(seen) > limit {
			t.Errorf("%s allows %d calls, more than %d", set, len(seen), limit)
		}
	}
	for _, c := range deadly() {
		if allowedIn(wholeCore|inKeeper|inDialer, c.name) {
			t.Errorf("%s is deadly, and allowed", c.name)
		}
	}
}

func allowedIn(set filterSet, name string) bool {
	for _, c := range calls(someone) {
		if c.name == name && c.allowed&set != 0 {
			return true
		}
	}
	return false
}

// TestFilters compares each filter with what its rules mean, for every number and for
// arguments about those that count.
func TestFilters(t *testing.T) {
	arguments := [][6]uint64{
		{},
		{1, 1, 1, 1, 1, 1},
		{somePID},
		{somePID + 1},
		{unix.AF_UNIX, unix.SOCK_STREAM},
		{unix.AF_INET, unix.SOCK_STREAM},
		{goThread},
		{goThread | unix.CLONE_SETTLS},
		{goThread | 1<<32},
		{0, 0, unix.PROT_READ, unix.MAP_ANONYMOUS},
		{0, 0, unix.PROT_EXEC, unix.MAP_ANONYMOUS},
	}
	for arch, m := range machines {
		for _, set := range []filterSet{inCore, wholeCore, inCore | inTake, inKeeper, inStart, inWarden, inMason, inDialer, inPlanner} {
			rules := rulesOf(set, m.number, someone)
			program, err := assemble(m.audit, rules, refuse)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %s: %d instructions", arch, set, len(program))
			for number := range uint32(600) {
				for _, a := range arguments {
					d := callData{number, m.audit, a}
					got, err := run(program, d)
					if want := judge(rules, refuse, d); err != nil || got != want {
						t.Fatalf("%s, %s: %+v: %#x, %v, want %#x", arch, set, d, got, err, want)
					}
				}
			}
		}
	}
}

// wholeCore is the filter of a core that has all ways to apps.
const wholeCore = inCore | inConnect | inTake | inQUIC

// A verdictCase is a call and what becomes of it in each filter: a, allowed; r, refused;
// k, deadly; n, unknown to the kernel.
type verdictCase struct {
	name      string
	arguments [6]uint64
	core      byte
	keeper    byte
	start     byte
	warden    byte
}

// verdictCases are the rules about arguments as a reader would say them.
func verdictCases() []verdictCase {
	const shared, private = unix.MAP_SHARED, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	return []verdictCase{
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}, 'a', 'r', 'a', 'a'},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, 'r', 'r', 'r', 'r'},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, 'r', 'r', 'r', 'r'},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW}, 'r', 'r', 'r', 'r'},
		{"sendto", [6]uint64{9, 0, 0, unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT}, 'a', 'a', 'a', 'a'},
		{"sendto", [6]uint64{9, 0, 0, unix.MSG_FASTOPEN}, 'r', 'r', 'r', 'r'},
		{"fcntl", [6]uint64{3, unix.F_SETFL}, 'r', 'r', 'a', 'a'},
		{"fcntl", [6]uint64{3, unix.F_DUPFD_CLOEXEC}, 'r', 'r', 'a', 'a'},
		{"fcntl", [6]uint64{3, unix.F_SETOWN}, 'r', 'r', 'r', 'a'},
		{"fcntl", [6]uint64{3, unix.F_SETPIPE_SZ}, 'a', 'r', 'a', 'a'},
		{"fcntl", [6]uint64{3, unix.F_SETLK}, 'r', 'r', 'a', 'a'},
		{"ioctl", [6]uint64{3, fionbio}, 'r', 'r', 'r', 'r'},
		{"ioctl", [6]uint64{2, unix.TIOCSTI}, 'r', 'r', 'r', 'r'},
		{"ioctl", [6]uint64{2, unix.TCGETS}, 'r', 'r', 'a', 'a'},
		{"shutdown", [6]uint64{3, unix.SHUT_RD}, 'r', 'r', 'r', 'r'},
		{"shutdown", [6]uint64{3, unix.SHUT_WR}, 'a', 'r', 'a', 'a'},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_LINGER}, 'a', 'r', 'a', 'a'},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, 'r', 'r', 'r', 'r'},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_TCP, unix.SO_LINGER}, 'r', 'r', 'r', 'r'},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE, private}, 'a', 'a', 'a', 'a'},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE, shared}, 'r', 'r', 'a', 'a'},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC, private}, 'r', 'r', 'r', 'r'},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | 1<<32, private}, 'r', 'r', 'r', 'r'},
		{"mprotect", [6]uint64{0, 4096, unix.PROT_READ}, 'r', 'r', 'r', 'r'},
		{"clone", [6]uint64{goThread}, 'a', 'a', 'a', 'a'},
		{"clone", [6]uint64{goThread | unix.CLONE_NEWUSER}, 'r', 'r', 'r', 'r'},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, 'r', 'r', 'r', 'a'},
		{"clone3", [6]uint64{}, 'n', 'n', 'n', 'n'},
		{"tgkill", [6]uint64{somePID, somePID, uint64(unix.SIGURG)}, 'a', 'a', 'a', 'a'},
		{"tgkill", [6]uint64{1, 1, uint64(unix.SIGKILL)}, 'r', 'r', 'r', 'a'},
		{"kill", [6]uint64{1, uint64(unix.SIGKILL)}, 'r', 'r', 'r', 'a'},
		{"execve", [6]uint64{}, 'k', 'k', 'k', 'a'},
		{"execveat", [6]uint64{someProgram, 0, 0, 0, unix.AT_EMPTY_PATH}, 'k', 'k', 'a', 'a'},
		{"execveat", [6]uint64{someProgram + 1, 0, 0, 0, unix.AT_EMPTY_PATH}, 'k', 'k', 'r', 'a'},
		{"prctl", [6]uint64{unix.PR_SET_DUMPABLE, 0}, 'r', 'r', 'a', 'a'},
		{"prctl", [6]uint64{unix.PR_SET_DUMPABLE, 1}, 'r', 'r', 'r', 'r'},
		{"prctl", [6]uint64{unix.PR_SET_VMA}, 'a', 'a', 'a', 'a'},
		{"seccomp", [6]uint64{unix.SECCOMP_SET_MODE_FILTER}, 'r', 'r', 'a', 'a'},
		{"seccomp", [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, 'r', 'r', 'r', 'r'},
		{"fallocate", [6]uint64{3, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}, 'a', 'r', 'a', 'a'},
		{"fallocate", [6]uint64{3, 0}, 'r', 'r', 'r', 'r'},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_CORE}, 'r', 'r', 'a', 'a'},
		{"prlimit64", [6]uint64{1, unix.RLIMIT_CORE}, 'r', 'r', 'r', 'r'},
		{"unshare", [6]uint64{unix.CLONE_FILES}, 'k', 'k', 'k', 'a'},
		{"unshare", [6]uint64{unix.CLONE_NEWUSER}, 'k', 'k', 'k', 'r'},
		{"keyctl", [6]uint64{unix.KEYCTL_JOIN_SESSION_KEYRING, 0}, 'k', 'k', 'k', 'a'},
		{"keyctl", [6]uint64{unix.KEYCTL_READ}, 'k', 'k', 'k', 'r'},
		{"openat", [6]uint64{}, 'r', 'r', 'r', 'a'},
		{"ptrace", [6]uint64{}, 'k', 'k', 'k', 'k'},
		{"io_uring_setup", [6]uint64{}, 'k', 'k', 'k', 'k'},
		{"memfd_create", [6]uint64{}, 'k', 'k', 'k', 'k'},
		{"setresuid", [6]uint64{}, 'k', 'k', 'k', 'a'},
		{"bind", [6]uint64{}, 'r', 'r', 'r', 'r'},
		{"listen", [6]uint64{}, 'r', 'r', 'r', 'a'},
		{"recvmsg", [6]uint64{}, 'r', 'a', 'a', 'a'},
		{"recvmsg", [6]uint64{someLink}, 'a', 'a', 'a', 'a'},
		{"sendmsg", [6]uint64{}, 'r', 'r', 'a', 'a'},
		{"fcntl", [6]uint64{someSlot, unix.F_SETLK}, 'a', 'r', 'a', 'a'},
		{"sendmsg", [6]uint64{someSlot}, 'a', 'r', 'a', 'a'},
		{"sendmsg", [6]uint64{someSlot, 0, unix.MSG_FASTOPEN}, 'r', 'r', 'a', 'a'},
		{"recvmmsg", [6]uint64{}, 'r', 'r', 'a', 'a'},
		{"recvmmsg", [6]uint64{someSlot + 1}, 'a', 'r', 'a', 'a'},
		{"getsockname", [6]uint64{}, 'a', 'r', 'a', 'a'},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, 'a', 'r', 'a', 'a'},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_IP, unix.IP_TRANSPARENT}, 'r', 'r', 'r', 'r'},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}, 'r', 'r', 'r', 'a'},
		{"clone", [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, 'r', 'r', 'r', 'a'},
		{"chroot", [6]uint64{}, 'k', 'k', 'k', 'a'},
		{"mount", [6]uint64{}, 'k', 'k', 'k', 'k'},
		{"connect", [6]uint64{}, 'a', 'r', 'a', 'a'},
	}
}

// TestPlannerVerdicts shows what a planner may not do: look for anything, reach anybody, or
// become another program.
func TestPlannerVerdicts(t *testing.T) {
	for name, want := range map[string]verdict{
		"read": allow, "write": allow, "fstat": allow, "exit_group": allow,
		"openat": refuse, "newfstatat": refuse, "readlinkat": refuse, "socket": refuse, "connect": refuse, "sendmsg": refuse,
		"sendto": refuse, "recvmsg": refuse, "accept4": refuse, "pipe2": refuse, "kill": refuse, "wait4": refuse, "clone": refuse,
		"execve": kill, "memfd_create": kill, "ptrace": kill, "setresuid": kill, "landlock_restrict_self": kill, "seccomp": refuse,
		"clone3": absent,
	} {
		for arch, m := range machines {
			program, err := assemble(m.audit, rulesOf(inPlanner, m.number, someone), refuse)
			if err != nil {
				t.Fatal(err)
			}
			number, found := numbersOf(t, arch)[name]
			for _, arguments := range [][6]uint64{{3, 3, 3, 3}, {unix.AF_UNIX, unix.SOCK_STREAM}} {
				got, err := run(program, callData{uint32(number), m.audit, arguments})
				if err != nil || !found || got != want {
					t.Errorf("%s, %s%v: %#x, %v, want %#x", arch, name, arguments, got, err, want)
				}
			}
		}
	}
}

// TestVerdicts shows what becomes of calls, and that what the second filter of a core or
// keeper allows is allowed by those below it: the kernel takes the strictest verdict.
func TestVerdicts(t *testing.T) {
	for _, c := range verdictCases() {
		if (c.core == 'a' || c.keeper == 'a') && (c.start != 'a' || c.warden != 'a') {
			t.Errorf("%s%v: what a core or keeper may do, the door and the warden refuse", c.name, c.arguments)
		}
	}
	letters := map[verdict]byte{allow: 'a', refuse: 'r', kill: 'k', absent: 'n'}
	for arch, m := range machines {
		numbers := numbersOf(t, arch)
		for _, c := range verdictCases() {
			number, found := numbers[c.name]
			if !found {
				t.Fatalf("%s: no %s", arch, c.name)
			}
			for set, want := range map[filterSet]byte{wholeCore: c.core, inKeeper: c.keeper, inStart: c.start, inWarden: c.warden} {
				program, err := assemble(m.audit, rulesOf(set, m.number, someone), refuse)
				if err != nil {
					t.Fatal(err)
				}
				got, err := run(program, callData{uint32(number), m.audit, c.arguments})
				if err != nil || letters[got] != want {
					t.Errorf("%s, %s: %s%v: %c, %v, want %c", arch, set, c.name, c.arguments, letters[got], err, want)
				}
			}
		}
	}
}
