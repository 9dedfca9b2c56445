package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArguments(t *testing.T) {
	const text = `app:
  base: debian-${{VERSION}}
  run: |
    echo ${{ VERSION }}
    echo ${{GREETING:hello, you: all}} ${{EMPTY:}}. $${{VERSION}} $$${{VERSION}}
  labels: {a: "${{YAML}}", b: "x${{VERSION}}${{VERSION}}y"}
  expose: ["${{PORT:80}}"]
  cmd: ${{CMD:"a b"}}
genoci: # may stand below what uses it
  args: {VERSION: 1.10, YAML: "[x, y: z]", UNUSED: "", GIVEN: }
`
	s, err := Parse("f.yaml", []byte(text), Options{Args: map[string]string{"GREETING": "${{VERSION}}", "GIVEN": "g", "UNUSED": "u"}})
	if err != nil {
		t.Fatal(err)
	}
	got := s.Targets[0]
	want := &Target{
		Name: "app", Pos: Pos{1, 1}, Base: "debian-1.10", BasePos: Pos{2, 9},
		Actions: []Action{{Op: &Run{
			Script: "echo 1.10\necho ${{VERSION}} . ${{VERSION}} $${{VERSION}}\n",
			Written: &Written{
				Op:   &Run{Script: "echo ${{VERSION}}\necho ${{GREETING}} ${{EMPTY}}. ${{VERSION}} $${{VERSION}}\n"},
				Args: map[string]string{"EMPTY": "", "GREETING": "${{VERSION}}", "VERSION": "1.10"},
			},
		}, Pos: Pos{3, 8}}},
		Config: Config{
			Labels: []KV{{"a", "[x, y: z]"}, {"b", "x1.101.10y"}},
			Expose: []string{"80"},
			Cmd:    []string{"a b"},
		},
	}
	if diff := cmp.Diff(want, got, cmpOptions...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrongArguments(t *testing.T) {
	for _, test := range []struct {
		name, text string
		args       map[string]string
		want       string
	}{
		{"not known to the file", "genoci: {args: {VERSION: 1}}\napp: {run: x}\n", map[string]string{"VERSON": "2"},
			"f.yaml:1:1: --arg VERSON: the file has no argument of this name\n    genoci: {args: {VERSION: 1}}\n    ^ did you mean \"VERSION\"?"},
		{"no arguments at all", "app: {run: x}\n", map[string]string{"A": "2"}, "f.yaml: --arg A: the file has no argument of this name"},
		{"only used in a part that is ignored", "x-a: ${{A}}\napp: {run: x}\n", map[string]string{"A": "2"}, "f.yaml: --arg A: the file has no argument of this name"},
		{"the value is checked", "genoci: {args: {PORT: 80}}\napp: {expose: [\"${{PORT}}\"]}\n", map[string]string{"PORT": "http"},
			"f.yaml:2:16: target \"app\": expose: invalid port \"${{PORT}}\": expected 1 to 65535, as in 80 or 53/udp\n    app: {expose: [\"${{PORT}}\"]}\n                   ^"},
		{"empty by argument", "genoci: {args: {A: }}\napp: {run: \"${{A}}\"}\n", map[string]string{"A": " "},
			"f.yaml:2:12: target \"app\": run: the text is empty\n    app: {run: \"${{A}}\"}\n               ^"},
		{"wide characters before", "app: {run: 'éé ${{A}}'}\n", nil,
			"f.yaml:1:16: target \"app\": run: argument \"A\" is not defined\n    app: {run: 'éé ${{A}}'}\n                   ^"},
		{"folded text", "app:\n  run: >\n    a\n    ${{A}}\n", nil,
			"f.yaml:2:8: target \"app\": run: argument \"A\" is not defined\n      run: >\n           ^"},
		{"escaped text", "app:\n  run: \"\\t${{A}}\"\n", nil,
			"f.yaml:2:8: target \"app\": run: argument \"A\" is not defined\n      run: \"\\t${{A}}\"\n           ^"},
		{"literal text with an indentation of its own", "app:\n  run: |2-\n      a\n\n     b ${{A}}\n", nil,
			"f.yaml:5:8: target \"app\": run: argument \"A\" is not defined\n         b ${{A}}\n           ^"},
		{"not UTF-8", "app: {run: \"${{A}}\"}\n", map[string]string{"A": "x\xff"},
			"f.yaml:1:12: target \"app\": run: --arg A: the value is not UTF-8\n    app: {run: \"${{A}}\"}\n               ^"},
		{"empty name", "app:\n  run: a ${{}}\n", nil,
			"f.yaml:2:10: target \"app\": run: \"\" cannot name an argument: letters, digits and _ can, not beginning with a digit\n      run: a ${{}}\n             ^"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(test.text), Options{Args: test.args})
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A file cannot take more memory than a large one by naming an argument many times.
func TestManyArguments(t *testing.T) {
	text := fmt.Sprintf("genoci: {args: {A: %s}}\napp:\n  run: |\n    %s\n", strings.Repeat("x", 1<<20), strings.Repeat("${{A}}", 1000))
	_, err := Parse("f.yaml", []byte(text), Options{})
	if err == nil || !strings.HasPrefix(err.Error(), `f.yaml:4:29: target "app": run: with its arguments expanded, the file is larger than 4 MiB`) {
		t.Errorf("error %.200v", err)
	}
}

// Values of arguments are in no text of an op, and URLs are shown without them; names of files have
// them.
func TestWritten(t *testing.T) {
	for _, test := range []struct {
		text  string // below a target
		shown []string
		in    [][]string
	}{
		{"expand: a-${{V}}.tar", []string{"expand a-${{V}}.tar"}, [][]string{{"a-s3.tar"}}},
		{"expand: 'a.tar ${{ TWO }}'", []string{"expand a.tar ${{TWO}}", "expand a.tar ${{TWO}}", "expand a.tar ${{TWO}}"}, [][]string{{"a.tar"}, {"s4"}, {"s5"}}},
		{"expand: ['a.tar', 'b${{V}}.tar']", []string{"expand a.tar", "expand b${{V}}.tar"}, [][]string{{"a.tar"}, {"bs3.tar"}}},
		{"expand: {src: 'https://${{V}}/${{ V }}?${{V}}', dest: '/${{V:x}}', strip_components: '${{N}}', chown: '${{V}}'}", []string{"expand https://${{V}}/${{V}}?… /${{V}}"}, [][]string{{"https://${{V}}/${{V}}?…"}}},
		{"copy: ${{V}} /${{V}}", []string{"copy ${{V}} /${{V}}"}, [][]string{{"s3"}}},
		{"copy: ${{TWO}}", []string{"copy ${{TWO}}"}, [][]string{{"s4"}}},
		{"copy: {content: '${{V}}', dest: /x, chmod: '${{N}}'}", []string{"copy (content) /x"}, [][]string{nil}},
		{"copy: {from: 'x${{V}}', src: '/${{V}}', dest: /x}", []string{"copy x${{V}}:/${{V}} /x"}, [][]string{nil}},
		{"install: [a.deb, '${{V}}.deb', 'https://h/${{V}}.deb']", []string{"install a.deb ${{V}}.deb https://h/${{V}}.deb"}, [][]string{{"a.deb", "s3.deb", "https://h/${{V}}.deb"}}},
		{"install: 'https://h/${{TWO}}/x'", []string{"install https://h/${{TWO}}/x"}, [][]string{{"https://h/${{TWO}}/x", "s5/x"}}},
		{"install: {packages: '${{V}}', clean: '${{T}}'}", []string{"install ${{V}}"}, [][]string{nil}},
		{"run: curl ${{V}}", []string{"run curl ${{V}}"}, [][]string{nil}},
		{"run: ${{V}}", []string{"run ${{V}}"}, [][]string{{"${{V}}"}}},
		{"run: ${{TWO}}", []string{"run ${{TWO}}"}, [][]string{nil}},
		{"run: {script: '${{V}}.sh', args: '${{V}} \"${{TWO}}\"'}", []string{"run ${{V}}.sh ${{V}} ${{TWO}}"}, [][]string{{"s3.sh"}}},
		{"run: {script: 'x y', shell: ['${{V}}'], env: {A: '${{V}}'}}", []string{"run x y"}, [][]string{nil}},
		{"run: 'echo $${{V}}'", []string{"run echo ${{V}}"}, [][]string{nil}},
		{"remove: /a/${{TWO}}", []string{"remove /a/${{TWO}}"}, [][]string{nil}},
		{"remove: ['/${{V}}', /b]", []string{"remove /${{V}} /b"}, [][]string{nil}},
		{"steps: [{run: 'x ${{V}}'}, {run: y}]", []string{"run x ${{V}}", "run y"}, [][]string{nil, {"y"}}},
		{"pre: 'x ${{V}}'", []string{"pre x ${{V}}"}, [][]string{nil}},
		{"post: [y z, '${{TWO}}']", []string{"post y z", "post ${{TWO}}"}, [][]string{nil, nil}},
	} {
		s, err := Parse("f.yaml", []byte("t:\n  "+test.text+"\ngenoci: {args: {V: s3, TWO: s4 s5, N: 3, T: true}}\n"), Options{})
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		var ops []Op
		for _, h := range s.Targets[0].Pre {
			ops = append(ops, h)
		}
		for _, a := range s.Targets[0].Actions {
			ops = append(ops, a.Op)
		}
		for _, h := range s.Targets[0].Post {
			ops = append(ops, h)
		}
		var texts []string
		var in [][]string
		for _, op := range ops {
			texts, in = append(texts, op.String()), append(in, ShownInputs(op))
			for _, value := range Arguments(op) {
				if shown := cmp.Diff(nil, Shown(op)); strings.Contains(shown, fmt.Sprintf("%q", value)) {
					t.Errorf("%s: %s", test.text, shown)
				}
			}
		}
		if diff := cmp.Diff(test.shown, texts); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", test.text, diff)
		}
		if diff := cmp.Diff(test.in, in); diff != "" {
			t.Errorf("%s: inputs (-want +got):\n%s", test.text, diff)
		}
	}
}
