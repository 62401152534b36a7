// Bench measures sallyport beside other proxies, in one run on one machine: the
// processor time that all processes of each proxy use for a request, a
// handshake or a body, and the memory that an idle connection costs. Only
// ratios within a run mean much; the table says so, and gives the spread.
//
//	go run ./e2e/bench                              everything, in about ten minutes
//	go run ./e2e/bench -rounds 2 -seconds 1         a first look
//	go run ./e2e/bench -only closes,tls -peers sallyport,nginx
//	go run ./e2e/bench -only workers,workers-tls    one core against two, which is left out otherwise
//	go run ./e2e/bench -redraw e2e/bench/results/DATE-COMMIT.jsonl
//
// # How it measures
//
// For every work an app is started, and every proxy in front of it. They take
// turns, each round in another order. A turn reads the counters of /proc before
// and after; what a proxy's children used is its own. A figure is the median of
// its rounds. The app counts the requests, and on how many connections they
// came: that tells which proxy keeps its connections.
//
//	bench ── wrk, or its own client ──> proxy (tree of processes) ──> app on a unix socket
//
// # Peers
//
// A peer is a file in peers: its configuration as a template, with a few lines
// on top that say how it is run. What is not installed is left out. Programs of
// a newer Debian take part when -tree names the root folder of one, which
// `sh e2e/bench/prepare /some/folder` makes.
//
// # Security
//
// Nothing here is meant for use. All addresses are on loopback, the keys are
// thrown away, and everything that was started ends with the benchmark.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sallyport/e2e/bench/app"
)

// ours is the name of the peer that all others are the measure of.
const ours = "sallyport"

// limit ends a run that hangs somewhere.
const limit = 40 * time.Minute

// options are what the command line says.
type options struct {
	bin, tree, out string
	redraw         string // a results file; nothing is measured
	only, peers    []string
	rounds         int
	seconds        float64
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "app" {
		fail(app.Serve(os.NewFile(3, "listener"), os.Args[2] == "keep"))
		return
	}
	if len(os.Args) == 5 && os.Args[1] == "h3load" {
		fail(loadH3(os.Args[2:]))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	if o.redraw != "" {
		fail(redraw(o.redraw))
		return
	}
	fail(withdraw())
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var only, peers string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&only, "only", "", "works to measure, by commas; there are: "+strings.Join(names(works()), ","))
	flags.StringVar(&peers, "peers", "", "peers to measure, by commas; all that are installed without it")
	flags.IntVar(&o.rounds, "rounds", 5, "turns of each peer at each work")
	flags.Float64Var(&o.seconds, "seconds", 1.5, "length of a turn; half of it for handshakes and bodies")
	flags.StringVar(&o.bin, "bin", "bin", "folder of sallyport's binaries")
	flags.StringVar(&o.tree, "tree", os.Getenv("BENCH_TREE"), "root folder of a newer Debian; default $BENCH_TREE")
	flags.StringVar(&o.out, "out", "", "folder for the results; e2e/bench/results when everything is measured")
	flags.StringVar(&o.redraw, "redraw", "", "results file (.jsonl) to make table, picture and the README's part of, instead of measuring")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.seconds <= 0 {
		err := errors.New("bench: there are no arguments but flags, and at least one round of more than no time")
		fmt.Fprintln(flags.Output(), err)
		return o, err
	}
	o.only, o.peers = list(only), list(peers)
	if o.out == "" && o.only == nil && o.peers == nil {
		o.out = "e2e/bench/results"
	}
	return o, nil
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
