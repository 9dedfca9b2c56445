package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// idRange is a range of ids of the host.
type idRange struct{ first, count int64 }

// identityMaps are the ids that a user namespace gets: 0 is the caller, 1 and on are the ranges.
type identityMaps struct {
	newuidmap, newgidmap string // the programs that are allowed to write them
	uids, gids           []string
}

// callerIDs finds the subordinate ids of the caller, and the programs that map them.
func callerIDs() (identityMaps, error) {
	var ids identityMaps
	var err error
	if ids.newuidmap, err = findMapper("newuidmap"); err != nil {
		return ids, err
	}
	if ids.newgidmap, err = findMapper("newgidmap"); err != nil {
		return ids, err
	}
	uids, err := subordinate("/etc/subuid")
	if err != nil {
		return ids, err
	}
	gids, err := subordinate("/etc/subgid")
	if err != nil {
		return ids, err
	}
	ids.uids, ids.gids = mapArgs(os.Geteuid(), uids), mapArgs(os.Getegid(), gids)
	return ids, nil
}

func findMapper(name string) (string, error) {
	file, err := exec.LookPath(name)
	if err != nil {
		return "", lacks{name + " is not installed", "apt-get install uidmap"}
	}
	return file, nil
}

// callerName is the name of the caller, by which subuid(5) may know them; a caller without an
// account has only a number.
func callerName() string {
	if u, err := user.LookupUid(os.Getuid()); err == nil {
		return u.Name
	}
	if name := os.Getenv("USER"); name != "" {
		return name // accounts may come from elsewhere than /etc/passwd; newuidmap looks itself
	}
	return strconv.Itoa(os.Getuid())
}

// subordinate returns the caller's ranges in a file of subuid(5) or subgid(5).
func subordinate(file string) ([]idRange, error) {
	name, uid := callerName(), strconv.Itoa(os.Getuid())
	entries, err := user.ParseSubIDFileFilter(file, func(e user.SubID) bool { return e.Name == name || e.Name == uid })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	var ranges []idRange
	for _, e := range entries {
		ranges = append(ranges, idRange{e.SubID, e.Count})
	}
	if len(ranges) == 0 {
		return nil, lacks{
			fmt.Sprintf("no range of ids in %s for user %s", file, name),
			moreIDs(name),
		}
	}
	return ranges, nil
}

// moreIDs is the command that gives a user a range of the usual size, the first that nobody has:
// who shares ids with another user can change that one's files.
func moreIDs(name string) string {
	first, last := freeIDs(takenIDs(), usualIDs)
	return addIDs(name, first, last)
}

// takenIDs returns the ranges that users have.
func takenIDs() (taken []user.SubID) {
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		entries, _ := user.ParseSubIDFile(file) // one that cannot be read takes nothing
		taken = append(taken, entries...)
	}
	return taken
}

func addIDs(name string, first, last int64) string {
	return fmt.Sprintf("usermod --add-subuids %d-%d --add-subgids %[1]d-%[2]d %s", first, last, name)
}

// usualIDs is how many subordinate ids a user usually has.
const usualIDs = 65536

// IDsFor returns, in the user namespace that Enter made for an ordinary user, how many ids that
// has, and the command that gives the user enough of them for files of the id; "" where there
// cannot be that many.
func IDsFor(id int) (have int64, command string) {
	ranges, err := user.CurrentProcessUIDMap()
	if err != nil || len(ranges) == 0 {
		return 0, ""
	}
	for _, r := range ranges {
		have += r.Count
	}
	uid := int(ranges[0].ParentID)
	name := strconv.Itoa(uid)
	if u, err := user.LookupUid(uid); err == nil {
		name = u.Name
	}
	first, last := freeIDs(takenIDs(), int64(id)+1-have)
	if last >= math.MaxUint32 {
		return have, ""
	}
	return have, addIDs(name, first, last)
}

// freeIDs returns the lowest range of that size that has none of the ids taken.
func freeIDs(taken []user.SubID, count int64) (first, last int64) {
	first = 100000
	slices.SortFunc(taken, func(a, b user.SubID) int { return cmp.Compare(a.SubID, b.SubID) })
	for _, t := range taken {
		if t.SubID < first+count && first < t.SubID+t.Count {
			first = t.SubID + t.Count
		}
	}
	return first, first + count - 1
}

// mapArgs returns the arguments of newuidmap(1) that map id to 0 and the ranges to the numbers from
// 1 on. What of a range was mapped before is left out, since the kernel takes no host id twice.
func mapArgs(id int, ranges []idRange) []string {
	mapped := []idRange{{int64(id), 1}}
	args := []string{"0", strconv.Itoa(id), "1"}
	next := int64(1)
	for _, r := range ranges {
		for _, part := range without(r, mapped) {
			for _, n := range []int64{next, part.first, part.count} {
				args = append(args, strconv.FormatInt(n, 10))
			}
			next += part.count
			mapped = append(mapped, part)
		}
	}
	return args
}

// without returns the parts of r that are in none of the others.
func without(r idRange, others []idRange) []idRange {
	if r.count <= 0 {
		return nil
	}
	for i, o := range others {
		if r.first < o.first+o.count && o.first < r.first+r.count {
			before := idRange{r.first, o.first - r.first}
			after := idRange{o.first + o.count, r.first + r.count - o.first - o.count}
			return append(without(before, others[i+1:]), without(after, others[i+1:])...)
		}
	}
	return []idRange{r}
}

// write gives the process its maps.
func (m identityMaps) write(pid int) error {
	// Each takes a millisecond or more, so both run at once.
	gids := make(chan error, 1)
	go func() { gids <- runMapper(m.newgidmap, pid, m.gids) }()
	err := runMapper(m.newuidmap, pid, m.uids)
	return cmp.Or(err, <-gids)
}

func runMapper(file string, pid int, args []string) error {
	cmd := exec.Command(file, append([]string{strconv.Itoa(pid)}, args...)...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(bytes.ToValidUTF8(out, nil))); text != "" {
		err = errors.New(text)
	}
	if f := privileged(file); !f.OK {
		return lacks{f.Detail, f.Fix}
	}
	return lacks{what: fmt.Sprintf("map ids: %s: %v", file, err)}
}
