package kept

import "testing"

// TestNames: the names are on disk, so they stay what they are, and no tree is of two kinds.
func TestNames(t *testing.T) {
	for _, test := range []struct {
		got, want string
		checkout  bool
		target    string
	}{
		{Failed("web"), "failed:web", false, "web"},
		{Failed("a:b"), "failed:a:b", false, "a:b"},
		{Failed("checkout:web"), "failed:checkout:web", false, "checkout:web"},
		{Checkout("X1"), "checkout:X1", true, ""},
		{Checkout("failed:X1"), "checkout:failed:X1", true, ""},
		{"another", "another", false, ""},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
		if is := IsCheckout(test.got); is != test.checkout {
			t.Errorf("%q: IsCheckout is %v", test.got, is)
		}
		if target, ok := FailedTarget(test.got); ok != (test.target != "") || ok && target != test.target {
			t.Errorf("%q: FailedTarget is %q, %v, want %q", test.got, target, ok, test.target)
		}
	}
}
