package layout

var helpers = map[string]func(args []string) error{}
