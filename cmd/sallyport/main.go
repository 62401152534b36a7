// Sallyport is a reverse proxy whose parts trust each other as little as can be.
//
//	sallyport run    [-c sallyport.toml] [--ready-fd N]
//	sallyport serve  [--listen :8080] [--host NAME] [--tls internal|off] [--ready-fd N] unix:/run/app.sock
//	sallyport serve  [...] [--user U] -- COMMAND ARGUMENTS...
//	sallyport check  [-c sallyport.toml]
//	sallyport plan   [-c sallyport.toml] [--json]
//	sallyport reload [-c sallyport.toml | --control PATH]
//	sallyport stop   [-c sallyport.toml | --control PATH]
//	sallyport status [-c sallyport.toml | --control PATH] [--json | --ready]
//	sallyport privs  [-c sallyport.toml | --control PATH] [--assert] [--json]
//	sallyport version
//
// run reads the configuration, binds, opens key files, gives up privilege for
// good and serves in the foreground until TERM or INT; a second one ends it at
// once. When it serves, it logs {"message":"ready"} with the bound addresses and,
// with --ready-fd, writes "ready" and a line feed to that descriptor. The log is
// stderr: a line of JSON each, or text on a terminal.
//
// serve does the same without a file. Behind -- it starts the app too, on a
// socket that it makes: as the owner of the folder or as --user, never as root,
// with descriptor 3, LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES as sd_listen_fds(3)
// has them. {fd} and {socket} in the arguments are replaced; the flags of the usual
// app servers are known. The app's end is the end of the service, with its exit
// status, 128 and the number of the signal for one that was killed. HUP, USR1,
// USR2, TTIN, TTOU and WINCH are passed on to it.
//
// check says every mistake of the configuration, and goes to each app's socket as
// the core will; what is in the way comes with its fix. plan shows the processes,
// users, listeners and sites that run would make. stop asks a running sallyport
// to end, as TERM does, and waits until it has. status says how it is: its processes, its
// apps with their members, and who listens behind these; with --ready the exit status
// alone: 0 when it serves, else 3. status --help explains the names of --json.
//
// reload has a running sallyport follow its file. It says all mistakes as check does, binds
// what is new, opens certificates and keys, has a keeper check these, and hands them over;
// then new cores serve before the old ones stop to. Those end when their exchanges are
// over, within drain.requests, and their WebSockets, within drain.upgrades. A listener that
// the file does not name any more is closed when the new cores are ready. reload comes
// back then, and says which are: exit status 0. With a mistake, with what takes a restart,
// or if the new cores do not come up, the old ones serve on: exit status 1. It may be run
// by root and by who started the service. HUP, where no app was started that it is passed on
// to, replaces the cores on the plan as it is, and has the keeper read again the files that it
// has open; so does reload after serve, which has no file.
//
// privs shows what each process of a running sallyport is and may do: ids, capabilities,
// filters, limits, as the kernel tells it. What is not as the profile of its role has it is
// marked, and with --assert the exit status is 3 then. What only root may see is not visible
// to others, and no drift.
//
// Six more commands are for its own use: stage gives away what a role must not have and
// becomes that role's program; warden starts programs and keeps them alive; planner reads the
// configuration; mason builds the root of the cores; dialer connects to apps for them; scribe
// writes the log to where log.target wants it.
//
// # Exit status
//
// 0 fine; 1 a mistake of the operator, said on stderr; 2 wrong usage; 3 a check failed; 4 a
// part was lost that takes a start to replace. So a supervisor is to start it again after
// everything but 1 and 2.
//
// # Security
//
// Until boot is over, this program may be root, and it is the only one of ours
// that ever is. It opens one file, that of the operator, which nobody else
// may write, and leaves it to a planner to parse: a process under another uid that cannot
// open, reach or start anything, and whose word is a plan. It opens key files and does not
// read them, and no byte of the network comes to it. e2e/privileged counts the lines that run
// before privilege is left, and a test bounds them. Afterwards it is a warden under an ordinary
// uid, without capabilities, that reads nothing from its children but their death and one byte.
// Orders come from signals and from a socket that only root and the starter may use. reload is
// boot once more: what it has opened goes over that socket, and privilege ends with it; what it
// hears of the plan in force, it gives to a planner. So that no initialiser of a library runs as
// root, it links the standard library without net/http and crypto/tls, golang.org/x/sys and the
// TOML parser.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
)

// Exit codes.
const (
	exitFine    = 0
	exitMistake = 1
	exitUsage   = 2
	exitCheck   = 3
	exitLost    = 4
)

// usage is what --help prints.
const usage = `usage: sallyport COMMAND [-c sallyport.toml]

  run      serve in the foreground; --ready-fd N gets a line when it does
  serve    the same without a file: sallyport serve unix:/run/app.sock
           or with the app: sallyport serve -- gunicorn app:app
           --listen :8080  --host NAME  --tls internal|off  --user NAME
  check    say every mistake of the configuration, and what is in the way to an app
  plan     show who would run as whom, and where; --json for programs
  reload   have a running sallyport follow its file, losing nothing: ports, keys, apps, sites
  stop     end a running sallyport and wait for it; --control PATH finds it too
  status   say how a running sallyport is; --json for programs, --ready for health checks
  privs    show what each process of a running sallyport may do; --assert: 3 if more than it should
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
	case "serve":
		return serveCommand(args)
	case "check":
		return checkCommand(args)
	case "plan":
		return planCommand(args)
	case "stop":
		return stopCommand(args)
	case "reload":
		return reloadCommand(args)
	case "status":
		return statusCommand(args)
	case "privs":
		return privsCommand(args)
	case "version", "--version":
		return versionCommand()
	case "stage":
		return stageCommand(args)
	case "warden":
		return wardenCommand(args)
	case "planner":
		return plannerCommand(args)
	case "mason":
		return masonCommand(args)
	case "dialer":
		return dialerCommand(args)
	case "scribe":
		return scribeCommand(args)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return exitFine
	}
	fmt.Fprintf(os.Stderr, "sallyport: %q is no command\n%s", name, usage)
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
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is not expected", flags.Arg(0))
	}
	if err != nil {
		return refuse(flags.Name(), err), false
	}
	return exitFine, true
}

// refuse says what is wrong with the arguments of a command, or how it is used,
// and returns the exit code.
func refuse(command string, err error) int {
	if err.Error() == flag.ErrHelp.Error() { // a planner says it in words
		fmt.Print(usage)
		if command == "status" {
			fmt.Print(statusUsage)
		}
		return exitFine
	}
	fmt.Fprintf(os.Stderr, "sallyport %s: %v\n%s", command, err, usage)
	return exitUsage
}

// versionCommand prints what the build knows of itself.
func versionCommand() int {
	jailed := ""
	if jail.Off() {
		jailed = " jail off"
	}
	fmt.Printf("sallyport %s %s%s\n", version(), runtime.Version(), jailed)
	return exitFine
}

// version is that of the module, "dev" where the build did not know it.
func version() string {
	build, known := debug.ReadBuildInfo()
	if !known || build.Main.Version == "" || build.Main.Version == "(devel)" {
		return "dev"
	}
	return build.Main.Version
}
