// Package kept has the names of trees that outlive the process that made them: by its name is known
// whose a kept tree is. Whoever keeps, lists or removes such trees asks here, so that none of them
// takes one for what it is not.
package kept

import "strings"

const (
	failedPrefix   = "failed:"
	checkoutPrefix = "checkout:"
)

// Failed returns the name of the tree that the newest failed step of a target left. What a user
// calls TARGET@failed is, for storage drivers, the kept tree failed:TARGET.
func Failed(target string) string { return failedPrefix + target }

// FailedTarget returns the target whose failed step left the tree of the name.
func FailedTarget(name string) (target string, ok bool) { return strings.CutPrefix(name, failedPrefix) }

// Checkout returns the name of the tree of a checkout, of which id is the one and only.
func Checkout(id string) string { return checkoutPrefix + id }

// IsCheckout reports whether the tree of the name is that of a checkout.
func IsCheckout(name string) bool { return strings.HasPrefix(name, checkoutPrefix) }
