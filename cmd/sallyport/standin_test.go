package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"
)

// An app is the state of the app of the tests of serve.
type app struct {
	signals chan os.Signal // passed on, in order
	last    *os.File       // what orphans wait for the end of
	release *os.File
}

// newApp begins to listen to signals.
func newApp() *app {
	a := &app{signals: make(chan os.Signal, 16)}
	for _, s := range passedSignals() {
		signal.Notify(a.signals, s)
	}
	var err error
	if a.last, a.release, err = os.Pipe(); err != nil {
		panic(err)
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	go a.termLoop(terms)
	return a
}

// termLoop ends the app at the first TERM.
func (a *app) termLoop(terms chan os.Signal) {
	<-terms
	fmt.Fprintln(os.Stderr, `{"message":"app: TERM"}`)
	os.Exit(0)
}

// obey does what a word says and returns the answer.
func (a *app) obey(word string, number int) string {
	switch word {
	case "pid":
		return strconv.Itoa(os.Getpid())
	case "signal":
		s, _ := (<-a.signals).(unix.Signal) // it is one
		return strconv.Itoa(int(s))
	case "deaf":
		signal.Ignore(unix.SIGTERM)
	case "exit":
		os.Exit(number)
	case "kill":
		signal.Reset(unix.SIGTERM)
		_ = unix.Kill(os.Getpid(), unix.Signal(number)) // one does that
	case "orphans":
		return startOrphans(number, a.last)
	case "release":
		a.release.Close()
	}
	return "done"
}
