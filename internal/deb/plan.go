package deb

import (
	"fmt"
	"slices"
)

// Action is what dpkg does with packages.
type Action string

// The actions, by the options of dpkg(1).
const (
	Install   Action = "--install" // unpack all, then configure all
	Unpack    Action = "--unpack"
	Configure Action = "--configure"
)

// Call is one call of dpkg.
type Call struct {
	Action   Action
	Packages []int // indexes into the packages that the plan is for
}

// Plan is how dpkg installs packages.
type Plan struct {
	Calls []Call
	// Deconfigure: some of the packages break versions of others of them that the image has, so
	// that dpkg has to be allowed to deconfigure these until they are replaced
	// (--auto-deconfigure).
	Deconfigure bool
}

// NewPlan returns how dpkg installs the packages given in an image that has others installed. Their
// order stays, but where their fields ask for another one: what a package pre-depends on is
// configured before it is unpacked, with all that it needs itself, and what it breaks is replaced
// before. What dpkg has to refuse is left for dpkg to say.
func NewPlan(given, installed []Package) Plan {
	p := planner{given: given, installed: installed, state: make([]state, len(given))}
	var order []int
	for i := range given {
		p.unpack(i)
	}
	for _, c := range p.plan.Calls {
		if c.Action == Unpack {
			order = append(order, c.Packages...)
		}
	}
	p.plan.Deconfigure = p.deconfigure(order)
	if len(p.plan.Calls) == 1 {
		p.plan.Calls[0].Action = Install
		return p.plan
	}
	var rest []int
	for _, i := range order {
		if p.state[i] != configured {
			rest = append(rest, i)
		}
	}
	p.add(Configure, rest...)
	return p.plan
}

// state is how far a package has come.
type state int

const (
	untouched state = iota
	begun           // what has to come before it is being seen to
	unpacked
	configured
)

type planner struct {
	given, installed []Package
	state            []state
	plan             Plan
}

// add adds packages to the last call, or a further one.
func (p *planner) add(a Action, packages ...int) {
	if len(packages) == 0 {
		return
	}
	if last := len(p.plan.Calls) - 1; last >= 0 && p.plan.Calls[last].Action == a {
		p.plan.Calls[last].Packages = append(p.plan.Calls[last].Packages, packages...)
		return
	}
	p.plan.Calls = append(p.plan.Calls, Call{a, packages})
}

// unpack has a package unpacked, and before that, whatever has to be. Where these form a ring, dpkg
// tells what is wrong with it.
func (p *planner) unpack(i int) {
	if p.state[i] != untouched {
		return
	}
	p.state[i] = begun
	me := &p.given[i]
	for _, j := range slices.Concat(p.broken(i, me.Conflicts), p.broken(i, me.Breaks)) {
		p.unpack(j)
	}
	for _, c := range me.PreDepends {
		if provided(p.installed, c, me) {
			continue
		}
		if j := p.provider(i, c); j >= 0 {
			p.configure(j)
		}
	}
	p.add(Unpack, i)
	p.state[i] = unpacked
}

// configure has a package configured, and what it needs of those given.
func (p *planner) configure(i int) {
	needs := p.needs(i)
	for _, j := range needs {
		p.unpack(j)
	}
	// Anything may have been configured on the way.
	needs = slices.DeleteFunc(needs, func(j int) bool { return p.state[j] != unpacked })
	p.add(Configure, needs...)
	for _, j := range needs {
		p.state[j] = configured
	}
}

// needs returns the package i and what it needs, directly or not, of those given that are not
// configured; what is needed comes first.
func (p *planner) needs(i int) (all []int) {
	seen := make([]bool, len(p.given))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] || p.state[i] == configured {
			return
		}
		seen[i] = true
		for _, c := range slices.Concat(p.given[i].PreDepends, p.given[i].Depends) {
			if j := p.provider(i, c); j >= 0 {
				visit(j)
			}
		}
		all = append(all, i)
	}
	visit(i)
	return all
}

// provider returns the first of the given packages that satisfies a clause of the package i, in the
// order of the clause; -1 if there is none.
func (p *planner) provider(i int, c Clause) int {
	for _, r := range c {
		for j := range p.given {
			if j != i && p.given[j].satisfies(r, &p.given[i]) {
				return j
			}
		}
	}
	return -1
}

// broken returns the given packages of which the image has a version that clauses of the package i
// name, while those do not name the given one.
func (p *planner) broken(i int, clauses []Clause) []int {
	var all []int
	for _, c := range clauses {
		for k := range p.installed {
			if !p.named(c, &p.installed[k], i) {
				continue
			}
			if j := p.replacement(k); j >= 0 && j != i && !p.named(c, &p.given[j], i) {
				all = append(all, j)
			}
		}
	}
	return all
}

// deconfigure reports whether dpkg has to be allowed to deconfigure packages, if all of these are
// replaced.
func (p *planner) deconfigure(order []int) bool {
	some := false
	for at, i := range order {
		for _, c := range p.given[i].Breaks {
			for k := range p.installed {
				if p.installed[k].same(&p.given[i]) || !p.named(c, &p.installed[k], i) {
					continue
				}
				j := p.replacement(k)
				if j < 0 || p.named(c, &p.given[j], i) {
					return false // it would stay broken
				}
				some = some || slices.Index(order, j) > at
			}
		}
	}
	return some
}

// named reports whether a clause of the package i with one relation, such as of Breaks, names q. A
// package never means itself.
func (p *planner) named(c Clause, q *Package, i int) bool {
	return !q.same(&p.given[i]) && q.satisfies(c[0], &p.given[i])
}

// replacement returns the given package that takes the place of an installed one, or -1.
func (p *planner) replacement(k int) int {
	return slices.IndexFunc(p.given, func(g Package) bool { return g.same(&p.installed[k]) })
}

func provided(packages []Package, c Clause, of *Package) bool {
	for _, r := range c {
		if slices.ContainsFunc(packages, func(q Package) bool { return q.satisfies(r, of) }) {
			return true
		}
	}
	return false
}

// Missing returns what the given packages depend on that neither the image nor another of them has,
// in words.
func Missing(given, installed []Package) []string {
	left := slices.DeleteFunc(slices.Clone(installed), func(q Package) bool {
		return slices.ContainsFunc(given, func(g Package) bool { return g.same(&q) })
	})
	left = append(left, given...)
	var all []string
	for i := range given {
		for _, c := range slices.Concat(given[i].PreDepends, given[i].Depends) {
			if !provided(left, c, &given[i]) {
				all = append(all, fmt.Sprintf("%s needs %s", given[i].Name, c))
			}
		}
	}
	return all
}

// Twice returns the indexes of two given packages of which dpkg could keep one only.
func Twice(given []Package) (first, second int, ok bool) {
	for j := range given {
		for i := range j {
			if given[i].same(&given[j]) {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}
