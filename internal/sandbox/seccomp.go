package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run ./internal/gensyscalls

// abi is a way of calling the kernel: its AUDIT_ARCH_ value, and the calls that it has, by
// ascending number.
type abi struct {
	arch  uint32
	calls []syscallNumber
	// x32 are the calls to which the x32 variant of amd64 gives numbers of its own, from x32First
	// on; it shares the others.
	x32 []syscallNumber
}

// A call of the x32 variant has x32Bit in its number.
const (
	x32Bit   = 0x40000000
	x32First = 512
)

type syscallNumber struct {
	name   string
	number uint32
}

// defaultFilter returns the seccomp program for the default profile of moby and the default
// capabilities, in the form that the kernel reads. Each process makes it at most once, and only one
// that runs commands.
var defaultFilter = sync.OnceValues(func() ([]byte, error) {
	profile, err := defaultProfile()
	if err != nil {
		return nil, err
	}
	prog, err := compile(profile, abis)
	if err != nil {
		return nil, fmt.Errorf("compile the seccomp profile: %w", err)
	}
	return encode(prog), nil
})

func defaultProfile() (*specs.LinuxSeccomp, error) {
	caps := make([]string, len(capabilities))
	for i, c := range capabilities {
		caps[i] = c.name
	}
	process := &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}
	return seccomp.GetDefaultProfile(&specs.Spec{Process: process})
}

// filterInstruction is the size of struct sock_filter (linux/filter.h) in bytes.
const filterInstruction = 8

// encode returns the program as the kernel reads it.
func encode(prog []unix.SockFilter) []byte {
	b := make([]byte, 0, len(prog)*filterInstruction)
	for _, i := range prog {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// unknownCall is the answer to a call by a number that the table of the ABI does not have, as that
// of a call newer than this program. The C library then does without the call, which it would not
// on EPERM.
const unknownCall = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// compile translates a profile to a program for seccomp(2). For each ABI the calls are cut into
// spans of numbers with the same answer, among which a binary search decides, so that there are few
// instructions and few of them run for a call. A call by an unknown ABI gets the default action.
func compile(profile *specs.LinuxSeccomp, abis []abi) ([]unix.SockFilter, error) {
	rules := map[string][]specs.LinuxSyscall{}
	for _, s := range profile.Syscalls {
		for _, name := range s.Names {
			rules[name] = append(rules[name], s)
		}
	}
	p := &program{known: map[instruction]place{}, relays: map[place]place{}}
	other, err := p.action(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	entry := other
	for _, a := range abis {
		calls, err := p.calls(a.calls, rules, other)
		if err != nil {
			return nil, err
		}
		if a.x32 != nil {
			own, err := p.calls(a.x32, rules, other)
			if err != nil {
				return nil, err
			}
			x32 := p.mask(^uint32(x32Bit), p.test(unix.BPF_JGE, x32First, own, calls))
			calls = p.test(unix.BPF_JGE, x32Bit, x32, calls)
		}
		entry = p.test(unix.BPF_JEQ, a.arch, p.load(offsetNumber, calls), entry)
	}
	p.load(offsetArch, entry)
	slices.Reverse(p.code)
	if len(p.code) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%d instructions; the kernel takes %d", len(p.code), unix.BPF_MAXINSNS)
	}
	return p.code, nil
}

// The fields of struct seccomp_data (seccomp(2)). Arguments have 64 bits, low half first on the
// machines that genoci knows.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// program is a seccomp program that is written from its end to its beginning: whatever an
// instruction jumps to is there already. The same instruction going to the same places is written
// once.
type program struct {
	code   []unix.SockFilter // the last instruction first
	known  map[instruction]place
	relays map[place]place // the last jump to a place that conditional jumps did not reach any more
}

// place is an index in program.code.
type place int

// instruction is an instruction with the places where it goes on.
type instruction struct {
	code    uint16
	k       uint32
	yes, no place
}

func (p *program) write(i instruction, jt, jf uint8) place {
	p.code = append(p.code, unix.SockFilter{Code: i.code, Jt: jt, Jf: jf, K: i.k})
	at := place(len(p.code) - 1)
	p.known[i] = at
	return at
}

// ret answers the call.
func (p *program) ret(answer uint32) place {
	i := instruction{code: unix.BPF_RET | unix.BPF_K, k: answer}
	if at, ok := p.known[i]; ok {
		return at
	}
	return p.write(i, 0, 0)
}

// next writes an instruction that goes on at then.
func (p *program) next(code uint16, k uint32, then place) place {
	i := instruction{code: code, k: k, yes: then}
	if at, ok := p.known[i]; ok {
		return at
	}
	if int(then) != len(p.code)-1 {
		p.jump(then)
	}
	return p.write(i, 0, 0)
}

func (p *program) jump(to place) place {
	p.code = append(p.code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(p.code) - int(to) - 1)})
	return place(len(p.code) - 1)
}

// load loads a field of seccomp_data.
func (p *program) load(offset uint32, then place) place {
	return p.next(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, then)
}

// mask masks what is loaded.
func (p *program) mask(bits uint32, then place) place {
	if bits == 1<<32-1 {
		return then
	}
	return p.next(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, bits, then)
}

// test compares what is loaded with k; op is BPF_JEQ, BPF_JGE or BPF_JGT.
func (p *program) test(op uint16, k uint32, yes, no place) place {
	if yes == no {
		return yes
	}
	i := instruction{unix.BPF_JMP | op | unix.BPF_K, k, yes, no}
	if at, ok := p.known[i]; ok {
		return at
	}
	yes, no = p.near(yes), p.near(no)
	return p.write(i, p.skip(yes), p.skip(no))
}

// near returns a place from which to comes next, and which a conditional jump reaches: it can skip
// 255 instructions, of which one may be another relay.
func (p *program) near(to place) place {
	reached := func(at place) bool { return len(p.code)-int(at)-1 < 255 }
	if reached(to) {
		return to
	}
	if relay, ok := p.relays[to]; ok && reached(relay) {
		return relay
	}
	p.relays[to] = p.jump(to)
	return p.relays[to]
}

func (p *program) skip(to place) uint8 { return uint8(len(p.code) - int(to) - 1) }

// action answers the call as an action of a profile says.
func (p *program) action(a specs.LinuxSeccompAction, errno *uint) (place, error) {
	switch a {
	case specs.ActAllow:
		return p.ret(unix.SECCOMP_RET_ALLOW), nil
	case specs.ActErrno:
		code := uint32(unix.EPERM)
		if errno != nil {
			code = uint32(*errno)
		}
		return p.ret(unix.SECCOMP_RET_ERRNO | code&unix.SECCOMP_RET_DATA), nil
	case specs.ActKillProcess:
		return p.ret(unix.SECCOMP_RET_KILL_PROCESS), nil
	case specs.ActLog:
		return p.ret(unix.SECCOMP_RET_LOG), nil
	default:
		return 0, fmt.Errorf("action %s: %w", a, errors.ErrUnsupported)
	}
}

// span is a range of call numbers with the same answer, from first to the next span.
type span struct {
	first uint32
	then  place
}

// calls answers a call by the number that is loaded.
func (p *program) calls(calls []syscallNumber, rules map[string][]specs.LinuxSyscall, other place) (place, error) {
	unknown := p.ret(unknownCall)
	spans := []span{{0, unknown}}
	add := func(first uint32, then place) {
		if last := &spans[len(spans)-1]; last.first == first {
			last.then = then
		} else {
			spans = append(spans, span{first, then})
		}
	}
	for _, call := range calls {
		then, err := p.rules(rules[call.name], other)
		if err != nil {
			return 0, err
		}
		add(call.number, then)
		add(call.number+1, unknown)
	}
	return p.search(slices.CompactFunc(spans, func(a, b span) bool { return a.then == b.then })), nil
}

// search finds the span of the number that is loaded.
func (p *program) search(spans []span) place {
	if len(spans) == 1 {
		return spans[0].then
	}
	mid := len(spans) / 2
	return p.test(unix.BPF_JGE, spans[mid].first, p.search(spans[mid:]), p.search(spans[:mid]))
}

// rules answers a call by the first of the rules whose arguments all match.
func (p *program) rules(rules []specs.LinuxSyscall, other place) (place, error) {
	at := other
	for _, r := range slices.Backward(rules) {
		yes, err := p.action(r.Action, r.ErrnoRet)
		if err != nil {
			return 0, err
		}
		for _, arg := range slices.Backward(r.Args) {
			if yes, err = p.arg(arg, yes, at); err != nil {
				return 0, err
			}
		}
		at = yes
	}
	return at, nil
}

// arg compares an argument of the call.
func (p *program) arg(a specs.LinuxSeccompArg, yes, no place) (place, error) {
	switch a.Op {
	case specs.OpEqualTo:
		return p.equal(a.Index, 1<<64-1, a.Value, yes, no), nil
	case specs.OpNotEqual:
		return p.equal(a.Index, 1<<64-1, a.Value, no, yes), nil
	case specs.OpMaskedEqual:
		return p.equal(a.Index, a.Value, a.ValueTwo, yes, no), nil
	case specs.OpGreaterEqual:
		return p.greater(unix.BPF_JGE, a.Index, a.Value, yes, no), nil
	case specs.OpGreaterThan:
		return p.greater(unix.BPF_JGT, a.Index, a.Value, yes, no), nil
	case specs.OpLessThan:
		return p.greater(unix.BPF_JGE, a.Index, a.Value, no, yes), nil
	case specs.OpLessEqual:
		return p.greater(unix.BPF_JGT, a.Index, a.Value, no, yes), nil
	default:
		return 0, fmt.Errorf("operator %s: %w", a.Op, errors.ErrUnsupported)
	}
}

// equal tests whether argument & mask == value.
func (p *program) equal(index uint, mask, value uint64, yes, no place) place {
	return p.equalHalf(argHigh(index), uint32(mask>>32), uint32(value>>32),
		p.equalHalf(argLow(index), uint32(mask), uint32(value), yes, no), no)
}

func (p *program) equalHalf(offset, mask, value uint32, yes, no place) place {
	if mask == 0 && value == 0 {
		return yes
	}
	return p.load(offset, p.mask(mask, p.test(unix.BPF_JEQ, value, yes, no)))
}

// greater tests whether argument >= value (BPF_JGE) or > value (BPF_JGT).
func (p *program) greater(op uint16, index uint, value uint64, yes, no place) place {
	low := p.load(argLow(index), p.test(op, uint32(value), yes, no))
	same := p.test(unix.BPF_JEQ, uint32(value>>32), low, no)
	return p.load(argHigh(index), p.test(unix.BPF_JGT, uint32(value>>32), yes, same))
}

func argLow(index uint) uint32  { return offsetArgs + 8*uint32(index) }
func argHigh(index uint) uint32 { return argLow(index) + 4 }
