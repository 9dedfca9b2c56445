package sandbox

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// callData is struct seccomp_data (seccomp(2)).
type callData struct {
	number, arch uint32
	args         [6]uint64
}

func (d callData) word(offset uint32) uint32 {
	switch offset {
	case offsetNumber:
		return d.number
	case offsetArch:
		return d.arch
	default:
		arg := d.args[(offset-16)/8]
		return uint32(arg >> (8 * (offset % 8)))
	}
}

// execute runs the program as the kernel does, for the instructions that are allowed in it.
func execute(t *testing.T, prog []unix.SockFilter, d callData) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		branch := func(cond bool) {
			if cond {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = d.word(i.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(a == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(a >= i.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(a > i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, i.Code)
		}
	}
	t.Fatal("ran past the end")
	return 0
}

// answer is what the profile says about a call, found in the plainest way.
func answer(profile *specs.LinuxSeccomp, abis []abi, d callData) uint32 {
	errno := func(code *uint) uint32 {
		if code == nil {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*code)
	}
	actions := map[specs.LinuxSeccompAction]func(*uint) uint32{
		specs.ActAllow:       func(*uint) uint32 { return unix.SECCOMP_RET_ALLOW },
		specs.ActLog:         func(*uint) uint32 { return unix.SECCOMP_RET_LOG },
		specs.ActKillProcess: func(*uint) uint32 { return unix.SECCOMP_RET_KILL_PROCESS },
		specs.ActErrno:       errno,
	}
	fallback := actions[profile.DefaultAction](profile.DefaultErrnoRet)
	at := slices.IndexFunc(abis, func(a abi) bool { return a.arch == d.arch })
	if at < 0 {
		return fallback
	}
	number, calls := d.number, abis[at].calls
	if abis[at].x32 != nil && number >= x32Bit {
		if number &^= x32Bit; number >= x32First {
			calls = abis[at].x32
		}
	}
	known := slices.IndexFunc(calls, func(c syscallNumber) bool { return c.number == number })
	if known < 0 {
		return unknownCall
	}
	for _, rule := range profile.Syscalls {
		if slices.Contains(rule.Names, calls[known].name) &&
			!slices.ContainsFunc(rule.Args, func(a specs.LinuxSeccompArg) bool { return !holds(a, d) }) {
			return actions[rule.Action](rule.ErrnoRet)
		}
	}
	return fallback
}

func holds(a specs.LinuxSeccompArg, d callData) bool {
	v := d.args[a.Index]
	switch a.Op {
	case specs.OpEqualTo:
		return v == a.Value
	case specs.OpNotEqual:
		return v != a.Value
	case specs.OpLessThan:
		return v < a.Value
	case specs.OpLessEqual:
		return v <= a.Value
	case specs.OpGreaterThan:
		return v > a.Value
	case specs.OpGreaterEqual:
		return v >= a.Value
	case specs.OpMaskedEqual:
		return v&a.Value == a.ValueTwo
	}
	panic(a.Op)
}

// TestDefaultFilter compares the program with the profile for every call of every ABI, for the
// numbers around them, and for arguments around those that the profile names, with and without high
// halves.
func TestDefaultFilter(t *testing.T) {
	profile, err := defaultProfile()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile(profile, abis)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(prog))
	if len(prog) > 260 {
		t.Errorf("%d instructions: spans are not joined", len(prog))
	}
	arguments := []uint64{0, 1, 0xffffffff, 1 << 32}
	for _, s := range profile.Syscalls {
		for _, a := range s.Args {
			arguments = append(arguments, a.Value, a.Value+1, a.Value-1, a.Value|1<<32, a.ValueTwo)
		}
	}
	slices.Sort(arguments)
	arguments = slices.Compact(arguments)
	compare := func(d callData) {
		t.Helper()
		for i := range 2 {
			for _, v := range arguments {
				d.args = [6]uint64{}
				d.args[i] = v
				if got, want := execute(t, prog, d), answer(profile, abis, d); got != want {
					t.Fatalf("%+v: got %#x, want %#x", d, got, want)
				}
			}
		}
	}
	for _, a := range abis {
		for _, c := range slices.Concat(a.calls, a.x32) {
			for _, number := range []uint32{c.number, c.number + 1, c.number | x32Bit, c.number | 3<<30} {
				compare(callData{number: number, arch: a.arch})
			}
		}
		compare(callData{number: 1<<32 - 1, arch: a.arch})
	}
	compare(callData{number: 0, arch: unix.AUDIT_ARCH_RISCV64})
}

// TestDefaultFilterTells states some answers that matter by name.
func TestDefaultFilterTells(t *testing.T) {
	profile, err := defaultProfile()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile(profile, abis)
	if err != nil {
		t.Fatal(err)
	}
	const (
		allow = unix.SECCOMP_RET_ALLOW
		eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		nosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	for _, test := range []struct {
		name string
		arg0 uint64
		want uint32
	}{
		{"execve", 0, allow},
		{"chroot", 0, allow}, // CAP_SYS_CHROOT
		{"clone", uint64(unix.SIGCHLD), allow},
		{"clone", unix.CLONE_NEWUSER, eperm},
		{"clone", unix.CLONE_NEWUSER | 1<<40, eperm},
		{"clone3", 0, nosys},
		{"unshare", 0, eperm},
		{"mount", 0, eperm},
		{"bpf", 0, eperm},
		{"keyctl", 0, eperm},
		{"socket", unix.AF_INET, allow},
		{"socket", unix.AF_INET6, allow},
		{"socket", unix.AF_VSOCK, eperm},
		{"socket", unix.AF_INET | 1<<32, eperm},
		{"personality", 0xffffffff, allow},
		{"personality", 0xffffffff | 1<<32, eperm},
	} {
		for _, a := range abis {
			for _, c := range a.calls {
				if c.name == test.name {
					d := callData{number: c.number, arch: a.arch, args: [6]uint64{test.arg0}}
					if got := execute(t, prog, d); got != test.want {
						t.Errorf("arch %#x: %s(%#x): got %#x, want %#x", a.arch, test.name, test.arg0, got, test.want)
					}
				}
			}
		}
	}
	for _, a := range abis {
		if got := execute(t, prog, callData{number: 5000, arch: a.arch}); got != nosys {
			t.Errorf("arch %#x: unknown call: got %#x, want ENOSYS", a.arch, got)
		}
	}
}

// TestCompileRandom compares programs with profiles that use all operators, on tables long enough
// for jumps that no conditional jump can do.
func TestCompileRandom(t *testing.T) {
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
		specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
	values := []uint64{0, 1, 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<63 + 2, 1<<64 - 1}
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func() uint64 { return values[rnd.IntN(len(values))] }
	for range 30 {
		profile := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		tables := []abi{{arch: 1}, {arch: 2}}
		for i := range uint32(120) {
			name := string(rune('A' + i))
			for a := range tables {
				tables[a].calls = append(tables[a].calls, syscallNumber{name, 3*i + uint32(rnd.IntN(3))})
			}
			code := uint(rnd.IntN(4000))
			rule := specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &code}
			for range rnd.IntN(3) {
				rule.Args = append(rule.Args, specs.LinuxSeccompArg{Index: uint(rnd.IntN(6)), Value: pick(), ValueTwo: pick(), Op: ops[rnd.IntN(len(ops))]})
			}
			profile.Syscalls = append(profile.Syscalls, rule, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: 0, Value: pick(), Op: specs.OpGreaterThan}}})
		}
		prog, err := compile(profile, tables)
		if err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			d := callData{number: uint32(rnd.IntN(370)), arch: uint32(1 + rnd.IntN(3))}
			for i := range d.args {
				d.args[i] = pick()
			}
			if got, want := execute(t, prog, d), answer(profile, tables, d); got != want {
				t.Fatalf("%+v: got %#x, want %#x", d, got, want)
			}
		}
	}
}

// TestCompileRefuses: what the compiler does not know must not be taken for something else.
func TestCompileRefuses(t *testing.T) {
	table := []abi{{arch: 1, calls: []syscallNumber{{"read", 0}}}}
	for name, profile := range map[string]*specs.LinuxSeccomp{
		"default action": {DefaultAction: specs.ActTrace},
		"action":         {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActNotify}}},
		"operator": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_NEW"}}}}},
	} {
		if _, err := compile(profile, table); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTables: compile relies on their order.
func TestTables(t *testing.T) {
	for _, a := range abis {
		for _, calls := range [][]syscallNumber{a.calls, a.x32} {
			for i := 1; i < len(calls); i++ {
				if calls[i-1].number >= calls[i].number {
					t.Errorf("arch %#x: %v before %v", a.arch, calls[i-1], calls[i])
				}
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		profile, err := defaultProfile()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := compile(profile, abis); err != nil {
			b.Fatal(err)
		}
	}
}
