// Package e2e tests sallyport from outside: the real binaries, real apps on
// unix sockets, and real clients.
//
// A story that is commands and their outcome is a file in cases, which
// script_test.go reads. A story that has to look at processes, memory or time
// is a Go test here. The rules that the source itself must keep (imports,
// sizes, no sleeping in tests) are in imports_test.go and rules_test.go.
// Compare has one job done with three proxies; it is tried by hand.
//
// SALLYPORT_BIN names a folder with the binaries to test; without it they are
// built. What needs root or an app that is not installed is skipped, and says
// so; `make test` installs the apps when it may.
package e2e
