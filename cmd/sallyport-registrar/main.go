// Sallyport-registrar talks to the CA, so that the keeper of the keys has no network.
//
//	sallyport-registrar --gifts plan,state,roots,eab,keeper,ready
//
// It is started by a warden of sallyport, never by hand. --gifts names the
// descriptors that it inherits, from 3 on: its part of the plan (JSON in sealed memory), the
// folder of its account, the roots that the CA is trusted by and the key of an account given
// out elsewhere, where the plan has these, the link to the keeper, and a pipe for the one
// byte that says it is ready. Over the link come requests for certificates, and go chains.
// TERM ends it; one that is killed in the middle of an order is started again by its
// warden, and the keeper orders again.
//
// The log is lines of JSON on stderr. Exit codes: 0 a good end, 1 a mistake of the operator, or
// a system that refuses what is needed; 2 usage.
//
// # Security
//
// This process reads what strangers send: the CA, name servers, and whoever can pretend to be
// one. It has no key of a site, and no way to one: certificates are requested with
// requests that the keeper has signed. What it has is the account at the CA.
//
// What holds it: a user of its own; no capability, and no_new_privs; it listens nowhere, and
// its filter of system calls allows it TCP and UDP to connect, and the files that resolve
// names (/etc, read only, by landlock), and its own folder. The certificates of trusted CAs
// are read before that.
//
// MPTCP is off: its sockets would be a family more for the filter to think about.
//
//go:debug multipathtcp=0
package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
	"sallyport/tlsload/registrar"
)

const (
	exitMistake = 1
	exitUsage   = 2
)

func main() {
	if err := jail.Seal(jail.Registrar); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitMistake)
	}
	flags := flag.NewFlagSet("sallyport-registrar", flag.ExitOnError) // which is 2
	names := flags.String("gifts", "", "names of the descriptors from 3 on")
	_ = flags.Parse(os.Args[1:]) // exits instead
	if *names == "" || flags.NArg() > 0 {
		flags.Usage()
		os.Exit(exitUsage)
	}
	runtime.GOMAXPROCS(1)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE) // a terminal's, and of a log that nobody reads
	stdlog.SetOutput(io.Discard)                                   // certmagic's word on ports that it has no use for
	log := openLog(os.Stderr)
	if err := run(*names, log); err != nil {
		log.Error().Err(err).Msg("registrar failed")
		os.Exit(exitMistake)
	}
}

// openLog makes a log on a file, in the form that suits its reader. Lines are few, and who
// does not read them keeps orders waiting, not clients.
func openLog(file *os.File) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	var to io.Writer = file
	if stat, err := file.Stat(); err == nil && stat.Mode()&os.ModeCharDevice != 0 {
		to = zerolog.ConsoleWriter{Out: file, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(to).With().Timestamp().Str("process", "registrar").Logger()
}

// run is the registrar's life, from its gifts to its end.
func run(names string, log zerolog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	gifts, err := sockets.TakeGifts(names)
	if err != nil {
		return err
	}
	plan, err := readPlan(gifts)
	if err != nil {
		return err
	}
	secrets, kept, err := secretsOf(gifts, plan)
	if err != nil {
		return err
	}
	link, err := gifts.FD("keeper")
	if err != nil {
		return err
	}
	r, err := registrar.New(plan, secrets, link, log)
	if err != nil {
		return err
	}
	if err := jail.Confine(jail.Registrar, kept...); err != nil {
		return err
	}
	if err := gifts.TellReady(); err != nil {
		return err
	}
	log.Info().Str("ca", plan.CA).Msg("registrar ready")
	return r.Serve(ctx)
}

func readPlan(gifts sockets.Gifts) (plan conf.Registrar, err error) {
	if err := gifts.Decode("plan", &plan); err != nil {
		return plan, err
	}
	fd, err := gifts.FD("plan")
	return plan, errors.Join(err, syscall.Close(fd))
}

// secretsOf reads what the plan names, and returns besides the folder that stays open.
func secretsOf(gifts sockets.Gifts, plan conf.Registrar) (s registrar.Secrets, kept []sockets.Gift, err error) {
	if s.Roots, err = rootsOf(gifts, plan); err != nil {
		return s, nil, err
	}
	if plan.KeyFile != "" {
		text, err := readFile(gifts, "eab")
		if err != nil {
			return s, nil, err
		}
		s.KeyMAC = string(bytes.TrimSpace(text))
	}
	if plan.Folder == "" {
		return s, nil, nil
	}
	fd, err := gifts.FD("state")
	if err != nil {
		return s, nil, err
	}
	s.Folder, err = sockets.OpenFolder(fd, plan.Folder)
	return s, []sockets.Gift{{Name: "state", FD: fd}}, err
}

// rootsOf are those whom the CA's own server has to be certified by.
func rootsOf(gifts sockets.Gifts, plan conf.Registrar) (*x509.CertPool, error) {
	if plan.RootFile == "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("registrar: certificates of trusted CAs: %w; install ca-certificates, or write ca_root below [tls]", err)
		}
		return roots, nil
	}
	text, err := readFile(gifts, "roots")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("registrar: %s: holds no certificate in PEM", plan.RootFile)
	}
	return roots, nil
}

// fileBytesMax bounds a file of the operator.
const fileBytesMax = 1 << 20

// readFile reads a gift from its beginning, wherever its offset is, and closes it.
func readFile(gifts sockets.Gifts, name string) ([]byte, error) {
	fd, err := gifts.FD(name)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, 0, fileBytesMax+1))
	if err == nil && len(text) > fileBytesMax {
		err = errors.New("is too long")
	}
	if err != nil {
		return nil, fmt.Errorf("registrar: %s: %w", name, err)
	}
	return text, nil
}
