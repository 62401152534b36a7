// Sallyport-core answers the internet.
//
// It is started by a warden and by nobody else: its arguments name the descriptors
// that it finds open, as package sockets gives them, and its row among the cores that
// live at the same time.
//
//	sallyport-core --gifts plan,http0,https0,board,wake0,wake1,wake2,wake3,link,spool,dialer,ready --row 0 --slot 0 --apps root
//
// To apps it comes by the sockets in its own root, and by the dialer where one is not
// there; with "--apps dialer" by that one alone, and with "--apps paths", in builds without
// a jail, by the paths of the plan.
//
// It accepts connections on the listeners it was given, and of HTTP/3 on its slot of the UDP
// sockets beside them ("https0udp"), speaks HTTP to clients
// and forwards their requests to the apps of its plan. When it can answer, it
// writes one byte to ready. TERM lets it drain: idle connections are closed,
// exchanges end, for at most drain.requests. More of them change nothing: a
// supervisor that signals every process of a service is no second opinion. USR1 is
// TERM for a core that has been replaced, which has more time (leave.go). Its
// warden kills it when it has to end at once.
//
// # Exit status
//
// 0 drained; 1 it could not start, and says why on stderr; 4 the link to the keeper is
// lost: its successor gets a new one.
//
// # Security
//
// This process is expected to be taken over. It holds no private key: signatures
// for handshakes come from the keeper, over link, which signs nothing else. It has
// no path of a configuration, a certificate or a log; no capability, and no way to
// gain one. What it can still do: answer for the sites while it runs, read what
// clients and apps say to each other through it, ask the keeper for
// signatures of TLS handshakes, and speak to the apps. Its root has nothing but the folders
// of their sockets. The 44 system calls that it has left are in package jail.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/proxy"
	"sallyport/sockets"
	"sallyport/tlsload"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

func main() {
	if err := jail.Seal(jail.Core); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := proxy.NewLogWriter(os.Stderr)
	log := newLog(lines)
	err := run(os.Args[1:], log)
	if err != nil {
		log.Error().Err(err).Msg("core failed")
	}
	_ = lines.Close() // waits a second at most, and has nobody to tell
	switch {
	case errors.Is(err, tlsload.ErrClosed):
		os.Exit(4)
	case err != nil:
		os.Exit(1)
	}
}

// run is the life of a core: inherit, wire, serve, drain.
func run(args []string, log zerolog.Logger) error {
	given, err := inherit(args)
	if err != nil {
		return err
	}
	gifts, plan := given.gifts, given.plan
	level, err := zerolog.ParseLevel(plan.Log.Level)
	if err != nil {
		return err
	}
	log = log.Level(level)
	runtime.GOMAXPROCS(1) // more processors are for more cores
	shared, err := openBoard(given)
	if err != nil {
		return err
	}
	arena, err := openSpool(given)
	if err != nil {
		return err
	}
	front, err := newFront(plan, shared, arena, gifts, given.slot, log)
	if err != nil {
		return err
	}
	ways, err := front.come(given)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 3) // each of them once
	signal.Notify(signals, signalStop, signalRetire, signalCut)
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE) // the main warden's business
	if err := jail.ConfineCore(ways); err != nil {
		return err
	}
	if err := front.open(); err != nil {
		return err
	}
	if err := gifts.TellReady(); err != nil {
		return err
	}
	if plan.ACME {
		front.keyring.Serving()
	}
	log.Debug().Int("row", given.row).Msg("core ready")
	end := leaving{front, log}
	select {
	case s := <-signals:
		if s == signalRetire {
			end.retire(plan.DrainRequests, plan.DrainUpgrades, signals)
		} else {
			end.stop(plan.DrainRequests)
		}
		return nil
	case <-front.lost():
		end.stop(min(plan.DrainRequests, unlinkedTime))
		return tlsload.ErrClosed
	}
}

// An inheritance is what the warden gave.
type inheritance struct {
	gifts sockets.Gifts
	plan  *conf.Core
	row   int    // this core's own, among all that live
	slot  int    // of UDP sockets, likewise
	apps  string // how it comes to them
}

// inherit takes what the warden gave.
func inherit(args []string) (given inheritance, err error) {
	if len(args) != 8 || args[0] != "--gifts" || args[2] != "--row" || args[4] != "--slot" || args[6] != "--apps" {
		return given, errors.New("sallyport-core is started by sallyport: run that instead")
	}
	if given.row, err = strconv.Atoi(args[3]); err != nil || given.row < 0 {
		return given, fmt.Errorf("core: %q is no row", args[3])
	}
	if given.slot, err = strconv.Atoi(args[5]); err != nil || given.slot < 0 {
		return given, fmt.Errorf("core: %q is no slot", args[5])
	}
	given.apps = args[7]
	if given.gifts, err = sockets.TakeGifts(args[1]); err != nil {
		return given, err
	}
	given.plan = new(conf.Core)
	return given, given.gifts.Decode("plan", given.plan)
}

// openBoard takes this core's row of the board. It is never closed: what a core that
// ends still has there is cleared by its warden.
func openBoard(given inheritance) (*board.Board, error) {
	places := board.PlanOf(given.plan)
	memory, err := given.gifts.FD("board")
	if err != nil {
		return nil, err
	}
	wakes := make([]int, places.Rows)
	for row := range wakes {
		if wakes[row], err = given.gifts.FD("wake" + strconv.Itoa(row)); err != nil {
			return nil, err
		}
	}
	shared, err := board.Open(memory, wakes, places, given.row)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	return shared, unix.Close(memory)
}

// openSpool takes the file in which this core's bodies wait. It is never closed: its
// warden empties it.
func openSpool(given inheritance) (*spool.Arena, error) {
	fd, err := given.gifts.FD("spool")
	if err != nil {
		return nil, err
	}
	names := make([]string, len(given.plan.Apps))
	for i := range names {
		names[i] = given.plan.Apps[i].Name
	}
	arena, err := spool.Open(fd, given.plan.Spool, names...)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	return arena, nil
}

// newLog is the log of a core: JSON lines, or something to look at on a terminal.
func newLog(lines *proxy.LogWriter) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil {
		console := zerolog.ConsoleWriter{Out: lines, TimeFormat: "15:04:05.000"}
		return zerolog.New(console).With().Timestamp().Logger()
	}
	return zerolog.New(lines).With().Timestamp().Logger()
}
