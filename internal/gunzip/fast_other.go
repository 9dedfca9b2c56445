//go:build !amd64 || purego

package gunzip

// hasAssembly reports that there is none.
func hasAssembly() bool { return false }

func (d *inflater) fast() bool { return d.fastGo() }
