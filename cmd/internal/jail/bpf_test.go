package jail

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// A callData is struct seccomp_data: one call as a filter sees it.
type callData struct {
	number, machine uint32
	arguments       [6]uint64
}

// bytes lays it out as the kernel does.
func (d callData) bytes() []byte {
	text := binary.LittleEndian.AppendUint32(nil, d.number)
	text = binary.LittleEndian.AppendUint32(text, d.machine)
	text = binary.LittleEndian.AppendUint64(text, 0) // instruction pointer
	for _, a := range d.arguments {
		text = binary.LittleEndian.AppendUint64(text, a)
	}
	return text
}

// run is the kernel's interpreter, of the instructions that assemble uses.
func run(program []unix.SockFilter, d callData) (verdict, error) {
	text, accumulator := d.bytes(), uint32(0)
	for at := 0; at < len(program); at++ {
		step := program[at]
		yes := false
		switch step.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = binary.LittleEndian.Uint32(text[step.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			accumulator &= step.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return verdict(step.K), nil
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = accumulator == step.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = accumulator >= step.K
		default:
			return 0, fmt.Errorf("instruction %d: code %#x", at, step.Code)
		}
		if yes {
			at += int(step.Jt)
		} else {
			at += int(step.Jf)
		}
	}
	return 0, fmt.Errorf("ran past its end")
}

// judge is what rules mean, without a program.
func judge(rules []rule, otherwise verdict, d callData) verdict {
	for _, r := range rules {
		if r.number != d.number {
			continue
		}
		for _, s := range r.shapes {
			if s.fits(d) {
				return r.verdict
			}
		}
		if len(r.shapes) == 0 {
			return r.verdict
		}
		break
	}
	return otherwise
}

func (s shape) fits(d callData) bool {
	for _, c := range s {
		value, found := d.arguments[c.argument], false
		for _, v := range c.values {
			found = found || uint32(value)&c.mask == v
		}
		if !found || c.wide && value>>32 != 0 {
			return false
		}
	}
	return true
}

const someMachine = unix.AUDIT_ARCH_X86_64

// TestAssembleRandom compares programs with what their rules mean, for rules and calls
// that are drawn.
func TestAssembleRandom(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	verdicts := []verdict{allow, refuse, absent, kill}
	for range 300 {
		var rules []rule
		for number := range draw.IntN(12) {
			r := rule{number: uint32(number * 2), verdict: verdicts[draw.IntN(len(verdicts))]}
			for range draw.IntN(4) {
				r.shapes = append(r.shapes, drawShape(draw))
			}
			rules = append(rules, r)
		}
		otherwise := verdicts[draw.IntN(len(verdicts))]
		program, err := assemble(someMachine, rules, otherwise)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			d := callData{number: uint32(draw.IntN(26)), machine: someMachine}
			for i := range d.arguments {
				d.arguments[i] = drawValue(draw) | drawValue(draw)<<32*uint64(draw.IntN(2))
			}
			got, err := run(program, d)
			if want := judge(rules, otherwise, d); err != nil || got != want {
				t.Fatalf("%+v of %+v: %#x, %v, want %#x", d, rules, got, err, want)
			}
		}
	}
}

func drawValue(draw *rand.Rand) uint64 { return uint64(draw.IntN(4)) }

func drawShape(draw *rand.Rand) (s shape) {
	for range 1 + draw.IntN(3) {
		c := condition{argument: draw.IntN(6), wide: draw.IntN(2) == 0, mask: whole}
		if draw.IntN(3) == 0 {
			c.mask = 1
		}
		for range 1 + draw.IntN(3) {
			c.values = append(c.values, uint32(drawValue(draw)))
		}
		s = append(s, c)
	}
	return s
}

// TestAssembleKills shows that calls by the table of another machine kill, allowed or not.
func TestAssembleKills(t *testing.T) {
	program, err := assemble(someMachine, []rule{{1, allow, nil}}, refuse)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data callData
		want verdict
	}{
		{"allowed", callData{number: 1, machine: someMachine}, allow},
		{"not listed", callData{number: 2, machine: someMachine}, refuse},
		{"of 32 bits", callData{number: 1, machine: unix.AUDIT_ARCH_I386}, kill},
		{"of arm64", callData{number: 1, machine: unix.AUDIT_ARCH_AARCH64}, kill},
		{"x32", callData{number: 0x40000001, machine: someMachine}, kill},
		{"the last number", callData{number: whole, machine: someMachine}, kill},
	} {
		if got, err := run(program, c.data); err != nil || got != c.want {
			t.Errorf("%s: %#x, %v, want %#x", c.name, got, err, c.want)
		}
	}
}

// TestAssembleLimits shows that a rule too long for a jump is an error, and no wrong jump.
func TestAssembleLimits(t *testing.T) {
	long := make([]uint32, 300)
	if _, err := assemble(someMachine, []rule{{1, allow, []shape{{is(0, long...)}}}}, refuse); err == nil {
		t.Error("a jump of 300 instructions was made")
	}
	if _, err := assemble(someMachine, make([]rule, 2100), refuse); err == nil {
		t.Error("a program of more than 4096 instructions was made")
	}
}
