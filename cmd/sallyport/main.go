// Sallyport is a reverse proxy whose parts trust each other as little as can be.
//
//	sallyport run   [-c sallyport.toml] [--ready-fd N]
//	sallyport check [-c sallyport.toml]
//	sallyport plan  [-c sallyport.toml] [--json]
//	sallyport stop  [-c sallyport.toml | --control PATH]
//	sallyport version
//
// run reads the configuration, binds, opens key files, gives up privilege for
// good and serves in the foreground until TERM or INT; a second one ends it at
// once. When it serves, it logs {"message":"ready"} with the bound addresses and,
// with --ready-fd, writes "ready" and a line feed to that descriptor. The log is
// stderr: a line of JSON each, or text on a terminal.
//
// check says every mistake of the configuration, and goes to each app's socket as
// the core will; what is in the way comes with its fix. plan shows the processes,
// users, listeners and sites that run would make. stop asks a running sallyport
// to end, as TERM does, and waits until it has.
//
// Two more commands are for its own use: stage gives away what a role must not
// have and becomes that role's program; warden starts programs and keeps them alive.
//
// # Exit status
//
// 0 fine; 1 a mistake of the operator, said on stderr; 2 wrong usage; 3 a check failed.
//
// # Security
//
// Until boot is over, this program may be root, and it is the only one of ours
// that ever is. Then it parses one file, that of the operator, which nobody else
// may write, and no byte from the network. It opens key files and does not read
// them. Afterwards it is a warden under an ordinary uid, without capabilities,
// that reads nothing from its children but their death and one byte. Orders come
// from signals and from a socket that only root and the starter may use. So that
// no initialiser of a library runs as root, it links the standard library
// without net/http and crypto/tls, golang.org/x/sys and the TOML parser.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitFine    = 0
	exitMistake = 1
	exitUsage   = 2
	exitCheck   = 3
)

// usage is what --help prints.
const usage = `usage: sallyport COMMAND [-c sallyport.toml]

  run      serve in the foreground; --ready-fd N gets a line when it does
  check    say every mistake of the configuration, and what is in the way to an app
  plan     show who would run as whom, and where; --json for programs
  stop     end a running sallyport and wait for it; --control PATH finds it too
  version  say which sallyport this is
`

func main() {
	// A log that nobody reads any more is no reason to die.
	signal.Ignore(unix.SIGPIPE)
	os.Exit(command(os.Args[1:]))
}

// command runs the command of a command line and returns its exit code.
func command(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "run":
		return runCommand(args)
	case "check":
		return checkCommand(args)
	case "plan":
		return planCommand(args)
	case "stop":
		return stopCommand(args)
	case "version", "--version":
		return versionCommand()
	case "stage":
		return stageCommand(args)
	case "warden":
		return wardenCommand(args)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return exitFine
	}
	if slices.Contains([]string{"serve", "reload", "status", "privs"}, name) {
		fmt.Fprintf(os.Stderr, "sallyport %s: not yet\n", name)
	} else {
		fmt.Fprintf(os.Stderr, "sallyport: %q is no command\n%s", name, usage)
	}
	return exitUsage
}

// newFlags returns the flags of a command, with -c among them.
func newFlags(command string) (flags *flag.FlagSet, path *string) {
	flags = flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // parse speaks for it
	return flags, flags.String("c", "sallyport.toml", "")
}

// parse reads the flags of a command that takes no arguments. When it does not
// succeed, code is the exit code.
func parse(flags *flag.FlagSet, args []string) (code int, ok bool) {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return exitFine, false
	case err != nil:
		fmt.Fprintf(os.Stderr, "sallyport %s: %v\n%s", flags.Name(), err, usage)
		return exitUsage, false
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "sallyport %s: %q is not expected\n%s", flags.Name(), flags.Arg(0), usage)
		return exitUsage, false
	}
	return exitFine, true
}

// versionCommand prints what the build knows of itself.
func versionCommand() int {
	build, known := debug.ReadBuildInfo()
	if !known {
		fmt.Println("sallyport, built without module support")
		return exitFine
	}
	version := build.Main.Version
	if version == "" || version == "(devel)" {
		version = "dev"
	}
	fmt.Printf("sallyport %s %s\n", version, build.GoVersion)
	return exitFine
}
