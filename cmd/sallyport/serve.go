package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sallyport/conf"
)

// A listFlag is a flag that may be given more than once.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, " ") }

// Set adds one.
func (l *listFlag) Set(text string) error {
	*l = append(*l, text)
	return nil
}

// serveCommand is run for the plan that its arguments make. It returns only if it
// failed.
func serveCommand(args []string) int {
	a := consult(inquiry{Command: "serve", Words: args})
	if a.Refused != "" {
		return refuse("serve", errors.New(a.Refused))
	}
	if err := keepReadyFD(a.ReadyFD); err != nil {
		fmt.Fprintf(os.Stderr, "sallyport serve: %v\n", err)
		return exitUsage
	}
	if len(a.Mistakes) > 0 {
		return complain(a.Mistakes)
	}
	return begin(a)
}

// parseServe reads the arguments of serve. Flags may stand on either side of the
// socket; behind -- is the command.
func parseServe(flags *flag.FlagSet, args []string) (o conf.Options, readyFD int, err error) {
	flags.SetOutput(io.Discard) // refuse speaks for it
	flags.Var((*listFlag)(&o.Listen), "listen", "")
	flags.Var((*listFlag)(&o.Hosts), "host", "")
	flags.StringVar(&o.TLS, "tls", "", "")
	flags.StringVar(&o.User, "user", "", "")
	flags.IntVar(&readyFD, "ready-fd", -1, "")
	started := false
	if end := slices.Index(args, "--"); end >= 0 {
		args, o.Command, started = args[:end], args[end+1:], true
	}
	for rest := args; len(rest) > 0; {
		if err := flags.Parse(rest); err != nil {
			return o, -1, err
		}
		if rest = flags.Args(); len(rest) == 0 {
			break
		}
		if o.Socket != "" {
			return o, -1, fmt.Errorf("%q is not expected; a command stands behind --", rest[0])
		}
		o.Socket, rest = rest[0], rest[1:]
	}
	switch {
	case started && len(o.Command) == 0:
		return o, -1, errors.New("there is no command behind --")
	case started && o.Socket != "":
		return o, -1, fmt.Errorf("%q is not expected: the app of a command gets a socket of its own", o.Socket)
	case !started && o.Socket == "":
		return o, -1, errors.New("name the socket of the app, as unix:/run/app.sock, or the command that starts it, behind --")
	case !started && o.User != "":
		return o, -1, errors.New("--user is for an app that serve starts, and there is no command behind --")
	}
	return o, readyFD, nil
}
