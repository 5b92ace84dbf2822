// Package browsertest has the tests of package console in a real browser. It is a module of its own, as only they need a library that drives one. Without a Chromium
// they are skipped, and say so.
package browsertest
