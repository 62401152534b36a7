// Sallyport-keeper keeps the private keys and signs TLS handshakes for the cores.
//
//	sallyport-keeper --gifts plan,ready,adopt,link0,...,cert0,key0,...,secret,root,state,registrar,showing
//	sallyport-keeper --check [--only 0,3] --gifts plan,cert0,key0,...
//
// It is started by a warden of sallyport, never by hand. --gifts names the
// descriptors that it inherits, from 3 on: its part of the plan (JSON in sealed
// memory), a pipe for the one byte that says it is ready, a link to each core that
// runs, by its row, and one to its warden, from which come those of cores that start
// later, the opened files of each certificate and its key, and those of the internal CA,
// if the plan has one; if it has certificates from a CA, the folder that they are kept in
// and the link to the registrar, who asks the CA for them. It reads the files, sends the certificates to every core
// that says Hello, makes the keys of session tickets, and answers requests for
// signatures until SIGUSR2, or until the links have ended. TERM, INT and HUP it
// ignores: a supervisor or a terminal sends them to every process of a service, and
// the cores need signatures while they drain. What it keeps is in the two files of
// the internal CA: killed and started again by its warden, which holds the
// descriptors, it has the same keys, and answers the requests that its predecessor
// left in the links.
//
// A reload sends another table of certificates the way that links come, for the cores of
// another plan; old cores have their signatures by the table that they know. Before that
// the reload command starts a keeper with --check, which reads the files as this one will,
// under the same jail, and is more strict: what has expired is a mistake. So does the warden
// with --only, for those whose files have changed; then the table is sent again, with these.
//
// The log is lines of JSON on stderr, or readable ones on a terminal; what a reader
// that stalls has lost is counted in a line of its own. Exit codes:
// 0 a good end, 1 a mistake of the operator, such as a key that does not match its
// certificate, or a system that refuses what is needed; 2 usage.
//
// # Security
//
// This process has the keys and is highly sensitive. It reads bytes of two kinds:
// the files of the operator, once each; and packets of the cores,
// which are expected to be taken over by somebody from the internet. Those are at
// most 1 KiB long and of two kinds, and what they ask to be signed must have the
// form of a TLS handshake. The key of the internal CA signs nothing that they
// send.
//
// What holds it: a user of its own, if the start had the privilege to change to one;
// no capability, and no_new_privs, so that no program gives it any; it refuses to run
// with uid 0. Its memory is not dumpable: no other process of its user can read it.
// Once it is ready its only descriptors are stderr and the links, those to cores, the
// one to its warden and, with certificates from a CA, that to the registrar, and the folder
// of these; the files that it was given are closed, and stay open in its warden. Files, programs, sockets and
// other processes are out of its reach by the layers of package jail, and most of the
// kernel: it has 39 system calls, and 45 with that folder, outside of which it opens nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/keeper"
)

const (
	exitMistake = 1
	exitUsage   = 2
)

func main() {
	if err := jail.Seal(jail.Keeper); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitMistake)
	}
	flags := flag.NewFlagSet("sallyport-keeper", flag.ExitOnError) // which is 2
	names := flags.String("gifts", "", "names of the descriptors from 3 on")
	checks := flags.Bool("check", false, "read the files, say what is wrong with them, and end")
	only := flags.String("only", "", "numbers of the certificates that are checked; \"\": all")
	_ = flags.Parse(os.Args[1:]) // exits instead
	if *names == "" || flags.NArg() > 0 {
		flags.Usage()
		os.Exit(exitUsage)
	}
	// Serve has a thread of its own and nothing else is urgent. A second processor
	// would be woken for every request, to find nothing to do.
	runtime.GOMAXPROCS(1)
	ignoreStops()
	log, flush := openLog(os.Stderr)
	life := run
	if *checks {
		life = checker(*only).check
	}
	err := life(*names, log)
	var mistake conf.Mistake
	switch {
	case errors.As(err, &mistake):
		fmt.Fprintln(os.Stderr, err) // as the configuration's own mistakes are said
	case err != nil:
		log.Error().Err(err).Msg("keeper failed")
	}
	flush()
	if err != nil {
		os.Exit(exitMistake)
	}
}

// ignoreStops is there for whoever signals all processes at once, before anything
// else: a successor may start while cores drain. A log that nobody reads any more is
// no reason to die either.
func ignoreStops() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
}

// openLog makes a log that never waits for who reads it: a reader that stalls
// loses lines, which are counted, the cores lose nothing. flush waits for the lines
// that are left.
func openLog(file *os.File) (log zerolog.Logger, flush func()) {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	to := readable(file)
	logTo := func(w io.Writer) zerolog.Logger {
		return zerolog.New(w).With().Timestamp().Str("process", "keeper").Logger()
	}
	direct := logTo(to)
	lines := diode.NewWriter(to, 256, 0, func(missed int) {
		direct.Warn().Int("count", missed).Msg("log lines dropped") // where lines are written, thus in order
	})
	flush = func() { _ = lines.Close() } // closes the file too: there is nobody left to tell
	return logTo(lines), flush
}

// readable writes to a file in the form that suits its reader.
func readable(file *os.File) io.Writer {
	if stat, err := file.Stat(); err == nil && stat.Mode()&os.ModeCharDevice != 0 {
		return zerolog.ConsoleWriter{Out: file, TimeFormat: time.TimeOnly}
	}
	return file
}

// A checker is which certificates are checked; "": all.
type checker string

// check reads what a keeper would, and says what is wrong with it.
func (c checker) check(names string, log zerolog.Logger) error {
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	if c != "" {
		some, files, err := readSome(gifts, string(c))
		if err != nil {
			return err
		}
		return keeper.Check(some, files, keeper.AuthorityFiles{}, log)
	}
	plan, err := readPlan(gifts)
	if err != nil {
		return err
	}
	if _, err := gifts.FD("secret"); err != nil {
		plan.Authority = nil // it is the running keeper's
	}
	files, noFiles := filesOf(gifts, plan.Certificates, nil)
	kept, noAuthority := authorityOf(gifts, plan.Authority)
	if err := errors.Join(noFiles, noAuthority); err != nil {
		return err
	}
	return keeper.Check(plan, files, kept, log)
}

// run is the keeper's life, from its gifts to its end.
func run(names string, log zerolog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGUSR2) // also while files are read
	defer stop()
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	stores, err := loadAll(gifts, log)
	if err != nil {
		return err
	}
	issuance, err := issuanceOf(gifts)
	if err != nil {
		return err
	}
	if err := closeRead(gifts); err != nil {
		return err
	}
	k := keeper.New(stores[sockets.FirstTable], nil, log)
	certificates := 0
	for table, store := range stores {
		k.Keep(table, store)
		certificates += store.Len()
	}
	if fd, err := gifts.FD("showing"); err == nil { // a keeper of the tests has none
		if err := errors.Join(k.Show(fd), syscall.Close(fd)); err != nil {
			return err
		}
	}
	takeLinks(gifts, k)
	if err := adoptFrom(gifts, k, log); err != nil {
		return err
	}
	kept, err := obtain(ctx, gifts, issuance, k, log)
	if err != nil {
		return err
	}
	if err := jail.Confine(jail.Keeper, kept...); err != nil {
		return err
	}
	if err := gifts.TellReady(); err != nil {
		return err
	}
	log.Info().Int("certificates", certificates).Msg("keeper ready")
	return k.Serve(ctx)
}

// closeRead closes what has been read: everything but the links and the pipe that
// is still to be told. The warden holds it for a successor, and whoever takes this
// process over finds no file open.
func closeRead(gifts sockets.Gifts) error {
	for _, gift := range gifts {
		if stays(gift.Name) || strings.HasPrefix(gift.Name, "link") {
			continue
		}
		if err := syscall.Close(gift.FD); err != nil {
			return fmt.Errorf("keeper: close %s: %w", gift.Name, err)
		}
	}
	return nil
}

// stays reports whether a gift is needed after the start.
func stays(name string) bool {
	switch name {
	case "ready", "adopt", "state", "registrar", "showing":
		return true
	}
	return false
}
