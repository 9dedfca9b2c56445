package command

import "slices"

// Setting is what a command is run with beside its tree.
type Setting struct {
	Args    []string   `json:"args,omitempty"`
	Env     []string   `json:"env,omitempty"`     // K=V
	Dir     string     `json:"dir,omitempty"`     // working folder; "" is /
	User    string     `json:"user,omitempty"`    // as in sandbox.Cmd
	Network string     `json:"network,omitempty"` // "", host or none
	Lent    []LentFile `json:"lent,omitempty"`    // what it finds in the folder of what is lent
}

// settingOf returns the setting of a command of a step before it is run.
func settingOf(of *Command) *Setting {
	c := of.Cmd
	return &Setting{
		Args: slices.Clone(c.Args), Env: slices.Clone(c.Env), Dir: c.Dir, User: c.User, Network: string(c.Network), Lent: slices.Clone(of.files),
	}
}
