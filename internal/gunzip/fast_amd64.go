//go:build !purego

package gunzip

import "golang.org/x/sys/cpu"

// hasAssembly reports whether the processor can run fastBMI2.
func hasAssembly() bool { return cpu.X86.HasBMI2 && cpu.X86.HasSSSE3 }

// fast is fastGo, or the same in assembly.
func (d *inflater) fast() bool {
	if d.assembly {
		return fastBMI2(&d.state)
	}
	return d.fastGo()
}

// fastBMI2 is fastGo, with instructions of BMI2 and SSSE3.
//
//go:noescape
func fastBMI2(d *state) bool
