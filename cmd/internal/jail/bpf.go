package jail

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// This file is the assembler of seccomp filters: from a list of rules to a program of
// the classic BPF that seccomp(2) takes. It knows no call by name; calls.go does.

// A verdict is what becomes of a call, as seccomp(2) has it.
type verdict uint32

const (
	allow  verdict = unix.SECCOMP_RET_ALLOW
	refuse verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.EPERM)  // it fails; the process goes on
	absent verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.ENOSYS) // as by an older kernel
	taken  verdict = unix.SECCOMP_RET_ERRNO | verdict(unix.EADDRINUSE)
	kill   verdict = unix.SECCOMP_RET_KILL_PROCESS // with SIGSYS
)

// A rule is the verdict on one call, by its number. With shapes it is for those calls
// alone whose arguments have one of them.
type rule struct {
	number  uint32
	verdict verdict
	shapes  []shape
}

// A shape is what arguments look like: all its conditions hold.
type shape []condition

// A condition holds if an argument, under the mask, is one of the values. It looks at the
// lower 32 bits, and so does the kernel where the argument is an int; the upper ones of
// a wide one, a long, must be zero.
type condition struct {
	argument int // from 0
	wide     bool
	mask     uint32
	values   []uint32
}

// whole is the mask of a condition that looks at all bits.
const whole = ^uint32(0)

// Offsets in struct seccomp_data, whose arguments are 64 bits each. Both machines that
// there are tables for have the lower half first.
const (
	numberOffset    = 0
	machineOffset   = 4
	argumentsOffset = 16
)

// x32Bit marks the numbers of a second table that amd64 kernels may have.
const x32Bit = 0x40000000

// assemble makes a filter for one machine: rules in their order, so that what is called
// often stands first, and otherwise for all that have none, or arguments of no shape. What
// comes by the table of another machine kills.
func assemble(machine uint32, rules []rule, otherwise verdict) ([]unix.SockFilter, error) {
	program := []unix.SockFilter{
		load(machineOffset),
		ifEqual(machine, 1, 0),
		give(kill),
		load(numberOffset),
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32Bit, Jt: 0, Jf: 1},
		give(kill),
	}
	for _, r := range rules {
		block := r.assemble(otherwise)
		if len(block) > jumpMost {
			return nil, fmt.Errorf("call %d: %d instructions are more than a jump passes", r.number, len(block))
		}
		program = append(append(program, ifEqual(r.number, 0, uint8(len(block)))), block...)
	}
	program = append(program, give(otherwise))
	if len(program) > instructionsMost {
		return nil, fmt.Errorf("%d instructions: the kernel takes %d", len(program), instructionsMost)
	}
	return program, nil
}

const (
	jumpMost         = 255
	instructionsMost = unix.BPF_MAXINSNS
)

// assemble is what is done about the call of the rule: it ends with a verdict.
func (r rule) assemble(otherwise verdict) (block []unix.SockFilter) {
	if len(r.shapes) == 0 {
		return []unix.SockFilter{give(r.verdict)}
	}
	for _, s := range r.shapes {
		block = append(block, s.assemble(r.verdict)...)
	}
	return append(block, give(otherwise))
}

// assemble gives the verdict if the shape fits, and else goes on behind itself. It is made
// from its end, because jumps lead there.
func (s shape) assemble(fits verdict) []unix.SockFilter {
	block := []unix.SockFilter{give(fits)}
	for i := len(s) - 1; i >= 0; i-- {
		block = append(s[i].assemble(len(block)), block...)
	}
	return block
}

// assemble goes on if the condition holds, and else behind the rest of the shape.
func (c condition) assemble(rest int) []unix.SockFilter {
	block := []unix.SockFilter{}
	for i := len(c.values) - 1; i >= 0; i-- {
		step := ifEqual(c.values[i], uint8(len(block)), 0)
		if i == len(c.values)-1 {
			step.Jf = uint8(rest)
		}
		block = append([]unix.SockFilter{step}, block...)
	}
	if c.mask != whole {
		block = append([]unix.SockFilter{{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.mask}}, block...)
	}
	at := uint32(argumentsOffset + 8*c.argument)
	block = append([]unix.SockFilter{load(at)}, block...)
	if c.wide {
		block = append([]unix.SockFilter{load(at + 4), ifEqual(0, 0, uint8(len(block)+rest))}, block...)
	}
	return block
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// ifEqual passes over so many instructions.
func ifEqual(value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
}

func give(v verdict) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(v)}
}
