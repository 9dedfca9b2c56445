package action

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"genoci/internal/spec"
)

// probe is what tests ask of a kind.
type probe interface {
	zero() (Action, spec.Op)
	uncompared() []string
}

func (k *kindOf[O, N]) zero() (Action, spec.Op) {
	var op O
	return k.new(At{}, op), op
}

// uncompared returns the fields of a node of which no change is told.
func (k *kindOf[O, N]) uncompared() []string {
	var missing []string
	var was N
	for i := range reflect.TypeOf(was).NumField() {
		var is N
		f := reflect.ValueOf(&is).Elem().Field(i)
		switch f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			f.Elem().Set(some(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.Append(f, some(f.Type().Elem())))
		default:
			f.Set(some(f.Type()))
		}
		if !slices.ContainsFunc(k.fields(), func(f field[N]) bool { return !f.same(was, is) }) {
			missing = append(missing, reflect.TypeOf(was).Field(i).Name)
		}
	}
	return missing
}

// some returns a value that is not zero.
func some(t reflect.Type) reflect.Value {
	switch t.Kind() {
	case reflect.Bool:
		return reflect.ValueOf(true).Convert(t)
	case reflect.String:
		return reflect.ValueOf("x").Convert(t)
	default:
		return reflect.ValueOf(1).Convert(t)
	}
}

// What package spec decodes as an action is one here: it is carried out in the way that spec says,
// and each field of its part of a key is compared.
func TestKinds(t *testing.T) {
	known := map[string]bool{"Hook": true} // which is part of no key
	for _, k := range kinds() {
		a, op := k.(probe).zero()
		name := strings.TrimPrefix(fmt.Sprintf("%T", op), "*spec.")
		known[name] = true
		_, composes := a.(Composer)
		_, runs := a.(Runner)
		if runs != op.Runs() || composes == runs {
			t.Errorf("%s: it is a Composer: %v; it is a Runner: %v; spec says that it runs something: %v", name, composes, runs, op.Runs())
		}
		if fields := k.(probe).uncompared(); len(fields) > 0 {
			t.Errorf("%s: no change is told of the fields %v of its node", name, fields)
		}
	}
	files, err := filepath.Glob("../spec/*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "Runs" {
				name := f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name
				if !known[name] {
					t.Errorf("%s: spec has the action %s, and kinds has no line for it", path, name)
				}
			}
		}
	}
}
