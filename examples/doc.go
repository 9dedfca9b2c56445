// Package examples holds specs to start from, each in a folder with what it needs; all of them are
// tests.
package examples
